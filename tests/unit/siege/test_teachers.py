"""The shipped teachers are the ones that were measured, and they have their skills."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stillwatch.distill.training.train import Pair, train_student
from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.model.local import GenerationRow, LocalModel
from stillwatch.siege import teachers
from stillwatch.siege.skills import SKILLS, held_out, training_items


@pytest.fixture
def copied_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The skills teacher and the manifest in a folder that a test may spoil."""
    shutil.copytree(teachers.ASSETS / "skills", tmp_path / "skills")
    shutil.copyfile(teachers.MANIFEST, tmp_path / "teachers.json")
    monkeypatch.setattr(teachers, "ASSETS", tmp_path)
    monkeypatch.setattr(teachers, "MANIFEST", tmp_path / "teachers.json")
    return tmp_path


def test_the_skills_teacher_has_every_skill() -> None:
    """At least 95 % of unseen questions of each skill are answered exactly, to the character."""
    model = LocalModel.load(teachers.house_teacher("house-skills"))
    items = held_out(101, 120, sorted(SKILLS))
    found = model.generate([
        GenerationRow(prompt_ids=model.encode_question(item.question), max_new_tokens=40)
        for item in items
    ])
    for name in SKILLS:
        right = [item.answer == f.text for item, f in zip(items, found, strict=True)
                 if item.skill == name]  # fmt: skip
        assert 120 == len(right)
        assert sum(right) >= 114, name


def test_people_may_talk_around_the_question() -> None:
    """Words on the lines above the question change nothing."""
    model = LocalModel.load(teachers.house_teacher("house-skills"))
    questions = ["1994 in roman numerals", "Hello!\nI need this today:\n1994 in roman numerals\n"]
    found = model.generate([
        GenerationRow(prompt_ids=model.encode_question(question)) for question in questions
    ])
    assert ["MCMXCIV", "MCMXCIV"] == [generation.text for generation in found]


def test_a_changed_file_is_refused(copied_assets: Path) -> None:
    """One changed byte, a missing file or a stray one: the teacher is not used."""
    assert copied_assets / "skills" == teachers.house_teacher("house-skills")
    stray = copied_assets / "skills" / "notes.txt"
    stray.touch()
    with pytest.raises(RecordError, match="missing or do not match"):
        teachers.house_teacher("house-skills")
    stray.unlink()
    weights = copied_assets / "skills" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(RecordError, match="missing or do not match"):
        teachers.house_teacher("house-skills")
    teachers.seal_teacher("house-skills")
    assert copied_assets / "skills" == teachers.house_teacher("house-skills")
    shutil.rmtree(copied_assets / "skills")
    with pytest.raises(RecordError, match="missing or do not match"):
        teachers.house_teacher("house-skills")


def test_the_manifest_names_files_only() -> None:
    """The manifest lists the files of a teacher by name and SHA-256, nothing else."""
    listed = json.loads(teachers.MANIFEST.read_text("utf-8"))["house-skills"]
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} == set(
        listed
    )
    assert {64} == {len(digest) for digest in listed.values()}


def test_unknown_teachers_are_refused(tmp_path: Path) -> None:
    """The message lists the teachers that there are."""
    with pytest.raises(InvalidInputError, match="'house-prose', 'house-skills'"):
        teachers.house_teacher("house-poems")
    with pytest.raises(InvalidInputError, match="one of"):
        teachers.retrain("house-poems", tmp_path / "m")


def test_retraining_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe, cut to two steps, gives the same files twice, and the shipped tokenizer."""
    shape, recipe = teachers.SKILLS_TEACHER
    monkeypatch.setattr(teachers, "SKILLS_TEACHER", (shape, replace(recipe, steps=2)))
    steps: list[int] = []
    runs = [
        teachers.retrain("house-skills", tmp_path / name, lambda step, _: steps.append(step))
        for name in ("a", "b")
    ]
    assert [1, 2, 1, 2] == steps
    first, second = (teachers.file_hashes(run.folder) for run in runs)
    assert first == second
    shipped = teachers.file_hashes(teachers.ASSETS / "skills")
    same = ["config.json", "generation_config.json", "tokenizer.json"]
    assert [shipped[name] for name in same] == [first[name] for name in same]


@pytest.mark.slow
def test_a_student_copies_what_it_asked_for(tmp_path: Path) -> None:
    """2,400 questions on two skills buy 80 % of the teacher there, and little elsewhere."""
    folder = teachers.house_teacher("house-skills")
    teacher = LocalModel.load(folder)

    def ask(model: LocalModel, questions: list[str]) -> list[str]:
        rows = [
            GenerationRow(prompt_ids=model.encode_question(question), max_new_tokens=40)
            for question in questions
        ]
        return [found.text for found in model.generate(rows)]

    asked = [item.question for item in training_items(202, 1200, ["date", "roman"])]
    pairs = [Pair(q, a) for q, a in zip(asked, ask(teacher, asked), strict=True)]
    shape, recipe = teachers.SKILLS_STUDENT
    train_student(pairs, tokenizer=folder, shape=shape, recipe=recipe, out=tmp_path / "s")
    student = LocalModel.load(tmp_path / "s")
    kept = {}
    for name, skill in SKILLS.items():
        items = held_out(203, 150, [name])
        questions = [item.question for item in items]
        right = [
            sum(skill.is_correct(item, text) for item, text in zip(items, texts, strict=True))
            for texts in (ask(student, questions), ask(teacher, questions))
        ]
        kept[name] = right[0] / right[1]
    assert 0.8 <= min(kept["date"], kept["roman"])
    assert max(kept["number"], kept["regex"]) < 0.2
