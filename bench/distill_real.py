"""Copy teachers of real tasks: English to regular expressions, spelling to sound, commands.

    python bench/distill_real.py --data DIR [--out DIR] [--tasks regex,sound,commands] [--quick]

DIR holds skills/nl_rx, skills/cmudict and skills/scan. A teacher is trained on each task's own data
and served on loopback; `stillwatch.distill.run.Run` then asks it, trains students at nested budgets
and three seeds, scores them beside the teacher on questions that neither saw, and fits the curves.
Everything rests in OUT: a run that was stopped goes on. The table ends in OUT/table.md.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stillwatch.distill.items import Item, item_id_of, write_items
from stillwatch.distill.run import Run
from stillwatch.distill.training.student_tokenizer import write_pair_tokenizer
from stillwatch.distill.training.train import Pair, Recipe, StudentShape, train_student
from stillwatch.model.folder import GenerationDefaults
from stillwatch.record.exchange import Message
from stillwatch.siege.processes import ProcessGroup
from stillwatch.siege.server import ServerConfig, run_model_server

#: Questions that models are scored on, by a hash of the question; teachers never see them.
HELD_OUT, POOL = 400, 6_400
BUDGETS, QUICK_BUDGETS = (150, 300, 600, 1200, 2400, 4800), (300, 1200, 4800)


@dataclass(frozen=True)
class Task:
    """A task with an exact answer.

    Attributes:
        name: the capability.
        read: pairs of question and answer from the folder of skills.
        steps: of the teacher's training.
        student_steps: of each student's.
        max_tokens: longest answer asked for.
    """

    name: str
    read: Callable[[Path], Iterator[tuple[str, str]]]
    steps: int
    student_steps: int
    max_tokens: int


def read_regexes(skills: Path) -> Iterator[tuple[str, str]]:
    """English lines and the regular expressions that they mean."""
    asked = (skills / "nl_rx" / "synth_src.txt").read_text("utf-8").splitlines()
    meant = (skills / "nl_rx" / "synth_targ.txt").read_text("utf-8").splitlines()
    yield from zip(asked, meant, strict=True)


def read_sounds(skills: Path) -> Iterator[tuple[str, str]]:
    """English words of 3 to 8 letters and their phones, stress left out, one reading each."""
    for line in (skills / "cmudict" / "cmudict.dict").read_text("utf-8").splitlines():
        word, _, phones = line.split("#")[0].partition(" ")
        if word.isalpha() and word.isascii() and 3 <= len(word) <= 8:
            yield " ".join(word), "".join(c for c in phones.strip() if not c.isdigit())


def read_commands(skills: Path) -> Iterator[tuple[str, str]]:
    """Navigation commands of at most 16 actions."""
    short = {"TURN_RIGHT": "right", "TURN_LEFT": "left"}
    for line in (skills / "scan" / "tasks.txt").read_text("utf-8").splitlines():
        asked, _, meant = line.removeprefix("IN: ").partition(" OUT: ")
        actions = [short.get(a[2:], a[2:].lower()) for a in meant.split()]
        if len(actions) <= 16:
            yield asked, " ".join(actions)


TASKS = {
    task.name: task
    for task in (
        Task("regex", read_regexes, steps=2_400, student_steps=1_200, max_tokens=48),
        Task("sound", read_sounds, steps=3_000, student_steps=1_200, max_tokens=40),
        Task("commands", read_commands, steps=1_200, student_steps=900, max_tokens=32),
    )
}


def main() -> int:
    """Train teachers, run each task, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/distill-real"))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--quick", action="store_true", help="three budgets, one seed")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    chosen = [TASKS[name] for name in options.tasks.split(",")]
    skills, out = options.data / "skills", options.out
    out.mkdir(parents=True, exist_ok=True)
    for task in chosen:
        write_task(task, skills, out / task.name)
        train_teacher(task, skills, out / "teachers" / task.name)
    config = ServerConfig(models={t.name: out / "teachers" / t.name for t in chosen})
    rows = []
    with ProcessGroup() as processes:
        port = processes.start("teachers", run_model_server, config)
        for task in chosen:
            run_file = write_run(task, out / task.name, port=port, quick=options.quick)
            rows += run_task(Run.load(run_file), processes=options.processes)
            (out / "table.md").write_text(table(rows), "utf-8")
    print(table(rows))
    return 0


def split(task: Task, skills: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Part a task's pairs by a hash of the question: what may be learnt, what is held out."""
    pairs = dict(task.read(skills))
    order = sorted(pairs, key=lambda q: hashlib.sha256(f"{task.name} {q}".encode()).digest())
    rows = [(question, pairs[question]) for question in order]
    return rows[HELD_OUT:], rows[:HELD_OUT]


def write_task(task: Task, skills: Path, folder: Path) -> None:
    """Write the pool that a copier asks from, and the held-out items."""
    folder.mkdir(parents=True, exist_ok=True)
    open_pairs, held_out = split(task, skills)
    pool = [{"question": question} for question, _ in open_pairs[:POOL]]
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool), "utf-8")
    items = []
    for question, answer in held_out:
        messages = (Message(role="user", content=question),)
        items.append(
            Item(
                item_id=item_id_of(messages),
                messages=messages,
                capability=task.name,
                truth=answer,
                check="exact",
            )
        )
    write_items(folder / "held-out.jsonl", items)


def train_teacher(task: Task, skills: Path, out: Path) -> None:
    """Train a task's teacher on all that is not held out, once."""
    if (out / "config.json").is_file():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    pairs = [Pair(question, answer) for question, answer in split(task, skills)[0]]
    texts = (text for pair in pairs for text in pair)
    tokenizer = write_pair_tokenizer(texts, 512, path=out.parent / f"{task.name}-tokenizer.json")
    result = train_student(
        pairs,
        tokenizer=tokenizer,
        shape=StudentShape(width=96, layers=3),
        recipe=Recipe(steps=task.steps, defaults=GenerationDefaults(0.0, task.max_tokens)),
        out=out,
    )
    sys.stderr.write(f"teacher {task.name}: {result.cpu_s:.0f} CPU-s, {result.losses[-1]:.3f}\n")


def write_run(task: Task, folder: Path, *, port: int, quick: bool) -> Path:
    """Write a task's run file; the endpoint's port changes, its identity does not."""
    at = QUICK_BUDGETS if quick else BUDGETS
    path = folder / "RUN.toml"
    path.write_text(
        f"""name = "{task.name}"
out = "run"
[permission]
basis = "own-model"
teacher = "{task.name}"
[teacher]
endpoint = "http://127.0.0.1:{port}/v1"
endpoint_id = "distill-real {task.name}"
model = "{task.name}"
parameters = {{ temperature = 0, max_tokens = {task.max_tokens} }}
[questions]
files = ["pool.jsonl"]
order = "given"
[prices]
input = 0.15
output = 0.60
[filter]
drop = ["refusal", "filtered", "contaminated"]
wording = false
[train]
at = {list(at)}
seeds = {[0] if quick else [0, 1, 2]}
steps = {task.student_steps}
[train.student]
vocabulary = 512
width = 64
layers = 2
[score]
items = "held-out.jsonl"
check = "exact"
parameters = {{ temperature = 0, max_tokens = {task.max_tokens} }}
""",
        "utf-8",
    )
    return path


def run_task(run: Run, *, processes: int) -> list[dict[str, object]]:
    """Ask, train, score and fit; give a row a curve."""

    async def asked() -> None:
        await run.ask_held_out()
        await run.ask()

    asyncio.run(asked())
    run.filter()
    run.train(processes=processes)
    report = asyncio.run(run.score())
    teacher = report.inside.overall.models["teacher"].share
    rows: list[dict[str, object]] = []
    for curve in run.curve().curves:
        largest = max(point.n_questions for point in curve.points)
        last = [p.correct.mean() for p in curve.points if p.n_questions == largest]
        rows.append({
            "task": curve.capability,
            "teacher": f"{teacher.value:.3f} [{teacher.low:.3f}, {teacher.high:.3f}]",
            "form": curve.fitted.form if curve.fitted else "none",
            f"at the largest budget ({largest:,})": f"{sum(last) / len(last):.3f}",
            **{f"{r.of_teacher:.0%}": r.sentence for r in curve.reaches},
        })
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Lay rows out as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
