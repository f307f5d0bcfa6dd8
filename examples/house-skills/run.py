"""Distil the house skills teacher, served on loopback: questions to curve page in one command.

    python examples/house-skills/run.py            about eight minutes on two quiet cores
    python examples/house-skills/run.py --quick    two, with a curve that says it is too short
    python examples/house-skills/run.py --serve    only serve the teacher, for the command line

The page is house-skills-out/curve.html. Run it again and nothing is asked or trained twice.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from stillwatch.distill.items import Item, item_id_of, write_items
from stillwatch.record.exchange import Message
from stillwatch.siege.processes import ProcessGroup
from stillwatch.siege.server import ServerConfig, run_model_server
from stillwatch.siege.skills import Item as SkillItem
from stillwatch.siege.skills import held_out, training_items
from stillwatch.siege.teachers import house_teacher

HERE = Path(__file__).resolve().parent
OUT = HERE.parent.parent / "house-skills-out"
TEACHER = "house-skills"
PORT = 8911
#: What the copier asks for, and what it never asks.
ASKED, ELSEWHERE = ("date", "roman"), ("number", "regex")


def main() -> int:
    """Write the questions, serve the teacher, and run `stillwatch distill run`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three budgets, one seed")
    parser.add_argument("--serve", action="store_true", help="only serve, until Ctrl-C")
    options = parser.parse_args()
    write_questions()
    run_file = quick_file() if options.quick else HERE / "RUN.toml"
    config = ServerConfig(models={TEACHER: house_teacher(TEACHER)}, port=PORT)
    with ProcessGroup() as processes:
        port = processes.start("teacher", run_model_server, config)
        if options.serve:
            sys.stderr.write(f"http://127.0.0.1:{port}/v1 until Ctrl-C\n")
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
            return 0
        words = [sys.executable, "-m", "stillwatch.cli.main", "distill", "run", str(run_file)]
        return subprocess.run(words, check=False).returncode


def write_questions() -> None:
    """Write what may be asked, and what students are scored on."""
    OUT.mkdir(exist_ok=True)
    pool = "".join(
        f'{{"question": "{one.question}", "skill": "{one.skill}"}}\n'
        for one in training_items(seed=0, n=1680, skills=ASKED)
    )
    if not (OUT / "pool.jsonl").is_file():
        (OUT / "pool.jsonl").write_text(pool, "utf-8")
        write_items(OUT / "held-out.jsonl", scored(held_out(seed=0, n=300, skills=ASKED)))
        write_items(OUT / "elsewhere.jsonl", scored(held_out(seed=0, n=100, skills=ELSEWHERE)))


def scored(found: list[SkillItem]) -> list[Item]:
    """Turn held-out questions into items with their right answers, each question once."""
    items = {}
    for one in found:
        messages = (Message(role="user", content=one.question),)
        items[one.question] = Item(
            item_id=item_id_of(messages),
            messages=messages,
            capability=one.skill,
            truth=one.answer,
            check="regex" if one.skill == "regex" else "exact",
        )
    return list(items.values())


def quick_file() -> Path:
    """Write the run file of a short run beside the long one's questions."""
    text = (HERE / "RUN.toml").read_text("utf-8")
    text = text.replace("[100, 200, 400, 800, 1600, 3200]", "[200, 800, 3200]")
    text = text.replace("seeds = [0, 1, 2]", "seeds = [0]").replace("../../house-skills-out/", "")
    text = text.replace('out = "../../house-skills-out"', 'out = "quick"')
    path = OUT / "QUICK.toml"
    path.write_text(text, "utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
