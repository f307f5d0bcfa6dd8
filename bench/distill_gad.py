"""The black-box on-policy method beside sequence-level training, on the house teachers.

Equal questions and answers, four arms a seed: sequence level, the on-policy method as in its paper
and anchored, all with equal steps, and sequence level again with as many steps as the dearer game's
processor time buys. One process, one thread.

    python bench/distill_gad.py [--tasks skills,prose] [--seeds 3] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stillwatch.distill.game.gad import GadTable, train_gad
from stillwatch.distill.game.gad_policy import answer_logprobs
from stillwatch.distill.items import Example, Item, item_id_of
from stillwatch.distill.scores.discriminator import tell_apart
from stillwatch.distill.training.batches import pad_rows, row_of
from stillwatch.distill.training.train_lm import train_lm
from stillwatch.distill.training.train_table import StudentTable, TrainTable
from stillwatch.model.folder import ChatTokenizer, load_weights
from stillwatch.model.local import Generation, GenerationRow, LocalModel
from stillwatch.record.exchange import Answer, Message
from stillwatch.siege.prose import is_held_out, passages, prose_question, suspect_questions
from stillwatch.siege.skills import SKILLS, held_out, training_items
from stillwatch.siege.teachers import house_teacher

Score = Callable[[Path], dict[str, float]]


class Task(NamedTuple):
    """One comparison: what is learnt from, how, and how the outcome is measured."""

    examples: list[Example]
    table: TrainTable
    gad: GadTable
    score: Score
    teacher: dict[str, float]


def ask(
    model: LocalModel, questions: Sequence[str], *, temperature: float, length: int, seed: int
) -> list[Generation]:
    """Ask a model every question once.

    Args:
        model: teacher or student.
        questions: one line each.
        temperature: 0 is greedy.
        length: where an answer is cut, in tokens.
        seed: question i is drawn with seed + i.

    Returns:
        The answers in order.
    """
    return model.generate([
        GenerationRow(
            prompt_ids=model.encode_question(question),
            max_new_tokens=length,
            temperature=temperature,
            seed=seed + i,
        )
        for i, question in enumerate(questions)
    ])  # fmt: skip


def examples_of(questions: Sequence[str], answers: Sequence[Generation]) -> list[Example]:
    """Pair questions with answers that were not cut.

    Args:
        questions: as asked.
        answers: as given.

    Returns:
        The examples.
    """
    found = []
    for question, answer in zip(questions, answers, strict=True):
        messages = (Message("user", question),)
        item = Item(item_id=item_id_of(messages), messages=messages)
        if answer.finish_reason == "stop" and answer.text:
            found.append(Example(item=item, answer=Answer(answer.text, "stop")))
    return found


def nats_of(folder: Path, questions: Sequence[str], answers: Sequence[str]) -> float:
    """How unlikely a house model finds answers.

    Args:
        folder: the house model.
        questions: asked.
        answers: given, by whomever.

    Returns:
        Nats a token of the model's own tokenizer, ends included.
    """
    import torch

    model, chat = load_weights(folder), ChatTokenizer(folder)
    total, n_tokens = 0.0, 0
    encoded = [chat.encode_pair(q, a) for q, a in zip(questions, answers, strict=True)]
    rows = [row_of(ids, n_prompt) for ids, n_prompt in encoded]
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            batch = pad_rows(rows[start : start + 64], pad_id=chat.pad_id)
            found = answer_logprobs(model, batch)
            total, n_tokens = total - float(found.sum()), n_tokens + len(found)
    return total / n_tokens


def distinct_pairs(texts: Sequence[str]) -> float:
    """Share of pairs of neighbouring words that come for the first time.

    Args:
        texts: of one size, or the figure means nothing.

    Returns:
        0..1, higher = more diverse.
    """
    words = [text.split() for text in texts]
    pairs = [pair for each in words for pair in itertools.pairwise(each)]
    return len(set(pairs)) / max(1, len(pairs))


def prose_task(options: argparse.Namespace) -> Task:
    """Sampled prose: the teacher goes on from the beginning of a sentence.

    Args:
        options: sizes.

    Returns:
        The task.
    """
    folder = house_teacher("house-prose")
    teacher, length = LocalModel.load(folder), 48
    open_ones = [p for p in passages() if not is_held_out(p)]
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(open_ones))[: options.prose_questions]
    questions = [prose_question(open_ones[i], rng) for i in drawn]
    answers = ask(teacher, questions, temperature=1.0, length=length, seed=10**6)
    unseen = suspect_questions(options.held_out, seed=5)
    said = [g.text for g in ask(teacher, unseen, temperature=1.0, length=length, seed=10**7)]

    def measure(texts: list[str]) -> dict[str, float]:
        apart = tell_apart(said, texts, unseen, rng=np.random.default_rng(0))
        return {
            "teacher_nats": nats_of(folder, unseen, texts),
            "distinct_pairs": distinct_pairs(texts),
            "words": float(np.mean([len(text.split()) for text in texts])),
            "told_apart_auc": apart.value,
        }

    def score(student: Path) -> dict[str, float]:
        found = {"nats_of_teacher": nats_of(student, unseen, said)}
        model = LocalModel.load(student)
        for heat in (1.0, 0.8):
            own = ask(model, unseen, temperature=heat, length=length, seed=10**8)
            figures = measure([g.text for g in own])
            found |= {f"{name}@{heat}": value for name, value in figures.items()}
        return found

    again = ask(teacher, unseen, temperature=1.0, length=length, seed=10**8)
    table = TrainTable(
        steps=options.prose_steps, prompt_loss=0.0, temperature=1.0, max_new_tokens=length,
        student=StudentTable(width=96, layers=2, vocabulary=1024),
    )  # fmt: skip
    found = {f"{name}@1.0": value for name, value in measure([g.text for g in again]).items()}
    gad = GadTable(warmup=0.8, score_at=options.score_at)
    return Task(examples_of(questions, answers), table, gad, score, found)


def skills_task(options: argparse.Namespace) -> Task:
    """Exact answers: dates and roman numerals, greedy teacher.

    Args:
        options: sizes.

    Returns:
        The task.
    """
    folder, names = house_teacher("house-skills"), ["date", "roman"]
    teacher, length = LocalModel.load(folder), 40
    asked = training_items(1_000, options.skills_questions // len(names), names)
    questions = [item.question for item in asked]
    answers = ask(teacher, questions, temperature=0.0, length=length, seed=0)
    unseen = held_out(7, options.held_out // len(names), names)

    def score(folder: Path) -> dict[str, float]:
        model, found = LocalModel.load(folder), {}
        for heat in (0.0, 1.0):
            lines = [item.question for item in unseen]
            said = ask(model, lines, temperature=heat, length=length, seed=0)
            right = [
                SKILLS[i.skill].is_correct(i, g.text) for i, g in zip(unseen, said, strict=True)
            ]
            found[f"exact@{heat}"] = float(np.mean(right))
        return found

    student = StudentTable(width=56, layers=2, tokenizer=str(folder))
    table = TrainTable(steps=options.skills_steps, max_new_tokens=length, student=student)
    gad = GadTable(warmup=0.8, score_at=options.score_at)
    return Task(examples_of(questions, answers), table, gad, score, score(folder))


#: The on-policy arms: as in the paper, and with the teacher's texts beside the reward.
GAMES: dict[str, dict[str, Any]] = {"gad": {}, "gad, anchored": {"anchor": 1.0}}
TASKS: dict[str, Callable[[argparse.Namespace], Task]] = {
    "prose": prose_task,
    "skills": skills_task,
}


def compare(task: Task, *, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """Train the four arms and measure them.

    Args:
        task: the comparison.
        seed: of all.
        scratch: students are written here.

    Returns:
        One row an arm.
    """

    def row(arm: str, result: Any, steps: int) -> dict[str, Any]:
        figures = {name: round(value, 4) for name, value in task.score(result.folder).items()}
        return {
            "arm": arm,
            "seed": seed,
            "steps": steps,
            "cpu_s": round(result.cpu_s, 1),
            **figures,
        }

    steps, rows = task.table.steps, []
    plain = train_lm(task.examples, task.table, seed=seed, out=scratch / "sequence")
    rows.append(row("sequence, equal steps", plain, steps))
    dearest = 0.0
    for arm, changes in GAMES.items():
        gad = msgspec.structs.replace(task.gad, **changes)
        game = train_gad(task.examples, task.table, gad, seed=seed, out=scratch / "gad")
        told_apart = round(float(np.mean(game.trace.told_apart)), 3)
        rows.append({**row(arm, game, steps), "told_apart": told_apart})
        dearest = max(dearest, game.cpu_s)
    more = round(steps * dearest / plain.cpu_s)
    longer = msgspec.structs.replace(task.table, steps=more)
    long = train_lm(task.examples, longer, seed=seed, out=scratch / "longer")
    return [*rows, row("sequence, equal CPU", long, more)]


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", default="skills,prose")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prose-questions", type=int, default=3000)
    parser.add_argument("--prose-steps", type=int, default=200)
    parser.add_argument("--skills-questions", type=int, default=1500)
    parser.add_argument("--skills-steps", type=int, default=500)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--score-at", choices=["last", "mean"], default="last")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name in options.tasks.split(","):
        task = TASKS[name](options)
        sys.stdout.write(f"{name}: {len(task.examples)} answers; teacher {task.teacher}\n")
        found[name] = {"n_examples": len(task.examples), "teacher": task.teacher, "rows": []}
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                for row in compare(task, seed=seed, scratch=Path(scratch)):
                    found[name]["rows"].append(row)
                    sys.stdout.write(f"{row}\n")
                    sys.stdout.flush()
            if options.out is not None:
                options.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
