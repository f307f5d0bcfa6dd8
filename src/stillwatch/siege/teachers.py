"""The house teachers: shipped with the package, checked before use, and made again on demand.

`assets/teachers.json` lists the SHA-256 of every file; a teacher that does not match is refused,
because every figure of a siege depends on it.
"""

from __future__ import annotations

import hashlib
import json
import string
import tempfile
from collections.abc import Callable
from pathlib import Path

from stillwatch.distill.training.train import (
    Pair,
    Recipe,
    StudentShape,
    TrainingResult,
    train_student,
)
from stillwatch.errors import RecordError, reject
from stillwatch.model.folder import GenerationDefaults, write_character_tokenizer
from stillwatch.siege.skills import SKILLS, training_items

ASSETS = Path(__file__).parent / "assets"
MANIFEST = ASSETS / "teachers.json"
#: A teacher's name as the model server knows it, and its folder below `ASSETS`.
TEACHERS = {"house-skills": "skills", "house-prose": "prose"}

#: Seed of the questions that the skills teacher was trained on.
SKILLS_SEED = 1
SKILLS_TEACHER: tuple[StudentShape, Recipe] = (
    StudentShape(width=96, layers=3, heads=4, context=256),
    Recipe(steps=3_000, seed=1, defaults=GenerationDefaults(0.0, 40)),
)

#: What a copier trains on the answers it recorded. Chosen on campaigns of 2,400 questions: steps
#: count for more than width (64x2 with 700 steps varies twice as much between seeds).
SKILLS_STUDENT: tuple[StudentShape, Recipe] = (
    StudentShape(width=56, layers=2, heads=4, context=256),
    Recipe(steps=900, defaults=GenerationDefaults(0.0, 40)),
)


def house_teacher(name: str) -> Path:
    """Find a shipped teacher and check every file of it.

    Args:
        name: a key of `TEACHERS`.

    Returns:
        The model folder.

    Raises:
        RecordError: a file is missing or is not the one that was shipped.
    """
    folder = ASSETS / _folder(name)
    listed: dict[str, dict[str, str]] = json.loads(MANIFEST.read_text("utf-8"))
    expected = listed.get(name)
    if expected is None or not folder.is_dir() or expected != file_hashes(folder):
        message = f"{name}: the shipped files are missing or do not match {MANIFEST.name}"
        raise RecordError(message, hint="install the package again, or retrain the teacher")
    return folder


def retrain(
    name: str, out: Path, on_step: Callable[[int, float], None] | None = None
) -> TrainingResult:
    """Train a house teacher again by its recipe, from nothing.

    On the same processor family the bytes are the same (compare `file_hashes`); elsewhere sums
    are taken in another order and only the skills can be expected to be.

    Args:
        name: a key of `TEACHERS`.
        out: the model folder to write.
        on_step: called with the steps done and the loss in nats a token.

    Returns:
        What the training came to.
    """
    if _folder(name) == "prose":
        from stillwatch.siege.prose import train_prose_teacher

        return train_prose_teacher(out, on_step=on_step)
    return _train_skills_teacher(out, on_step)


def seal_teacher(name: str) -> None:
    """Write the hashes of a teacher's files into the manifest, after a retraining to be shipped.

    Args:
        name: a key of `TEACHERS`.
    """
    listed = json.loads(MANIFEST.read_text("utf-8")) if MANIFEST.is_file() else {}
    listed[name] = file_hashes(ASSETS / _folder(name))
    MANIFEST.write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n", "utf-8")


def file_hashes(folder: Path) -> dict[str, str]:
    """Hash every file of a model folder.

    Args:
        folder: the folder; sub-folders are not looked into.

    Returns:
        SHA-256 in hexadecimal by file name.
    """
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def _folder(name: str) -> str:
    if name not in TEACHERS:
        reject("house_teacher", "name", f"one of {sorted(TEACHERS)}", got=name)
    return TEACHERS[name]


def _train_skills_teacher(
    out: Path, on_step: Callable[[int, float], None] | None
) -> TrainingResult:
    shape, recipe = SKILLS_TEACHER
    # Every pair is shown once: a teacher has as many questions as it has room for.
    n = recipe.steps * recipe.batch_size // len(SKILLS)
    pairs = [Pair(i.question, i.answer) for i in training_items(SKILLS_SEED, n, list(SKILLS))]
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = write_character_tokenizer(
            string.digits + string.ascii_letters + string.punctuation + " ",
            Path(scratch) / "tokenizer.json",
        )
        return train_student(
            pairs, tokenizer=tokenizer, shape=shape, recipe=recipe, out=out, on_step=on_step
        )
