"""What each rung of the ladder does in the contest: how soon, what leaks before, what is kept.

One round of siege's world for each rung and seed, the same world for all rungs of a seed: honest
users and a campaign against the gateway on loopback, the rung standing alone for every model (no
dwell), `contest` being the ladder of `stillwatch siege`. Afterwards a student is trained on the
skill answers that the campaign kept, and asked what it has never seen.

    python bench/guard_rungs.py --out DIR [--seeds 2] [--size quick] [--only block] [--table]

One line a round is kept in DIR/rungs.jsonl: a run that was cut off goes on. An honest user who is
challenged never clears it here, so what honest users pay for that rung is an upper bound.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from stillwatch.distill.training.train import Pair
from stillwatch.guard.gateway import run_gateway
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.record.exchange import Exchange
from stillwatch.record.store import read_store
from stillwatch.siege.copies import Job, run_jobs
from stillwatch.siege.folder import read_json
from stillwatch.siege.processes import ProcessGroup
from stillwatch.siege.round import (
    RULES,
    Round,
    SiegeKeys,
    play_rounds,
    prepare_round,
    world_config,
    write_history,
    write_round,
)
from stillwatch.siege.server import ServerConfig, run_model_server
from stillwatch.siege.settings import DAY_S, SiegeSettings
from stillwatch.siege.skills import SKILLS, held_out
from stillwatch.siege.teachers import TEACHERS, house_teacher
from stillwatch.siege.watcher import Unwatched
from stillwatch.siege.world import build_world

_ALL: Final = "*"
RUNGS: Final[dict[str, tuple[LadderRule, ...]]] = {
    "observe": (LadderRule(_ALL, (Rung("observe"),)),),
    "log_full": (LadderRule(_ALL, (Rung("log_full"),)),),
    "strip": (LadderRule(_ALL, (Rung("strip"),)),),
    "throttle": (LadderRule(_ALL, (Rung("throttle", limit_per_day=24, burst=4),)),),
    "challenge": (LadderRule(_ALL, (Rung("challenge"),)),),
    "watermark": (LadderRule(_ALL, (Rung("watermark"),)),),
    "block": (LadderRule(_ALL, (Rung("block"),)),),
    "contest": RULES,
}
_LEAVES_ALONE: Final = frozenset({"allow", "observe"})
_DELAYED: Final = frozenset({"throttle", "challenge"})
_HELD_OUT_SEED: Final = 101


def play(settings: SiegeSettings, name: str, folder: Path) -> dict[str, Any]:
    """Play one round with one rung and measure it.

    Args:
        settings: seed and size.
        name: of the rung.
        folder: written anew, and removed afterwards.

    Returns:
        The row of the ledger.
    """
    shutil.rmtree(folder, ignore_errors=True)
    models = {teacher: house_teacher(teacher) for teacher in TEACHERS}
    config = ServerConfig(models=models, marks=SiegeKeys.of(settings.seed).marks)
    ladder = Ladder(RUNGS[name], mode="enforce")
    with ProcessGroup() as processes:
        model_url = f"http://127.0.0.1:{processes.start('model server', run_model_server, config)}"
        world = build_world(world_config(settings))
        prepared = prepare_round(
            settings, folder / name, world=world, model_url=model_url, ladder=ladder
        )
        write_history(prepared)
        port = processes.start("gateway", run_gateway, prepared.gateway)
        play_rounds({f"http://127.0.0.1:{port}": prepared}, Unwatched())
        processes.check()
    kept = write_round(prepared)
    row = {"rung": name, "seed": settings.seed, "size": settings.size}
    row |= measure(prepared) | copy_of(settings, kept, folder)
    shutil.rmtree(folder)
    return row


def measure(played: Round) -> dict[str, Any]:
    """Count what happened from the gateway's record and the truth.

    Args:
        played: the round, written.

    Returns:
        Times in simulated days since the campaign's first question, counts of requests.
    """
    roles = read_json(played.folder / "truth.json")["accounts"]
    record = sorted(read_store(played.folder / "store"), key=lambda x: x.started_at)
    own = [x for x in record if roles.get(x.account) == "campaign"]
    honest = [x for x in record if roles.get(x.account) != "campaign"]
    first = own[0].started_at
    alarm = next((one.at for one in played.learned if one.campaigns), None)
    acted = next((x.started_at for x in own if x.action not in _LEAVES_ALONE), None)
    before = [x for x in own if x.status == 200 and (acted is None or x.started_at < acted)]
    answered = [x for x in own if x.status == 200]
    return {
        "alarm_days": None if alarm is None else (alarm - first) / DAY_S,
        "action_days": None if acted is None else (acted - first) / DAY_S,
        "answers_before": len(before),
        "tokens_before": _tokens(before),
        "answers": len(answered),
        "tokens": _tokens(answered),
        "marked": sum(x.mark_key_id is not None for x in answered),
        "honest": len(honest),
        "honest_blocked": sum(x.action == "block" for x in honest),
        "honest_delayed": sum(x.action in _DELAYED and x.status != 200 for x in honest),
        "honest_touched": sum(x.action not in _LEAVES_ALONE for x in honest),
        "honest_accounts_touched": len({
            x.account for x in honest if x.action not in _LEAVES_ALONE
        }),
        "honest_accounts": len({x.account for x in honest}),
    }


def copy_of(settings: SiegeSettings, kept: Sequence[Exchange], folder: Path) -> dict[str, Any]:
    """Train a student on the skill answers that were kept and score it on held-out items.

    Args:
        settings: sizes.
        kept: what the campaign kept.
        folder: where the student goes.

    Returns:
        Answers kept, and the share of the teacher's skill that the copy has.
    """
    asked = world_config(settings).campaign.skills
    record = [x for x in kept if x.tags["skill"] in asked]
    items = held_out(settings.seed + _HELD_OUT_SEED, settings.held_out, list(asked))
    questions = tuple(item.question for item in items)
    pairs = tuple(Pair(x.tags["line"], x.answer) for x in record)
    out, steps = folder / "student", settings.student_steps
    jobs = [
        Job("student", "skills", pairs, questions, seed=0, out=out, steps=steps),
        Job("teacher", "teacher", (), questions, seed=0, out=out, steps=None),
    ]
    student, teacher = (
        [SKILLS[i.skill].is_correct(i, a) for i, a in zip(items, done.answers, strict=True)]
        for done in run_jobs(jobs, on_done=lambda _: None)
    )
    return {
        "skill_answers": len(record),
        "prose_answers": sum(x.tags["skill"] == "prose" for x in kept),
        "copy_keeps": float(np.mean(student) / np.mean(teacher)),
    }


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Write the ledger as a Markdown table, the mean over seeds.

    Args:
        rows: of the ledger.

    Returns:
        The table.
    """
    by_rung: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_rung.setdefault(row["rung"], []).append(row)
    lines = [
        "| rung | seeds | alarm, days | action, days | answers before | answers in all | marked | "
        "skill answers kept | copy keeps | honest blocked | honest delayed | "
        "honest accounts touched |",
        "|" + "---|" * 12,
    ]
    for name in RUNGS:
        own = by_rung.get(name)
        if not own:
            continue
        cells = [f"{_mean(own, key):.1f}" for key in ("alarm_days", "action_days")]
        cells += [f"{_mean(own, key):,.0f}" for key in ("answers_before", "answers", "marked")]
        cells += [f"{_mean(own, 'skill_answers'):,.0f}", f"{_mean(own, 'copy_keeps'):.2f}"]
        n_honest = sum(row["honest"] for row in own)
        cells += [
            f"{sum(row[key] for row in own):,} of {n_honest:,}"
            for key in ("honest_blocked", "honest_delayed")
        ]
        touched = sum(row["honest_accounts_touched"] for row in own)
        cells.append(f"{touched:,} of {sum(row['honest_accounts'] for row in own):,}")
        lines.append(f"| {name} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    found = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(found)) if found else float("nan")


def _tokens(exchanges: Iterable[Exchange]) -> int:
    return sum(x.output_tokens or 0 for x in exchanges)


def _settings(size: str, seed: int) -> SiegeSettings:
    if size == "tiny":
        return SiegeSettings.tiny(seed=seed)
    return SiegeSettings.of(seed=seed, quick=size == "quick")


def main() -> None:
    """Play what the ledger lacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", choices=("default", "quick", "tiny"), default="default")
    parser.add_argument("--only", choices=tuple(RUNGS))
    parser.add_argument("--table", action="store_true", help="print what the ledger holds")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    ledger = options.out / "rungs.jsonl"
    rows = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    rows = [row for row in rows if row["size"] == options.size]
    done = {(row["rung"], row["seed"]) for row in rows}
    for seed in range(options.seeds):
        for name in [options.only] if options.only else RUNGS:
            if options.table or (name, seed) in done:
                continue
            settings = _settings(options.size, seed)
            rows.append(play(settings, name, options.out / f"{name}-{seed}"))
            with ledger.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(f"{name}, seed {seed}: {json.dumps(rows[-1])}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
