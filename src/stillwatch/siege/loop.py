"""The contest: two rounds, the copies, the proof, the report; each step leaves its files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stillwatch import __version__
from stillwatch.detect import DetectConfig, detect, write_findings
from stillwatch.distill.curves.points import write_points
from stillwatch.distill.training.train import Pair
from stillwatch.guard.gateway import run_gateway
from stillwatch.record.exchange import Exchange
from stillwatch.record.store import scan_store
from stillwatch.report.moat_page import render_moat
from stillwatch.siege.copies import Job, Trained, run_jobs
from stillwatch.siege.folder import staged_folder, write_json, write_lines
from stillwatch.siege.moat import compute_moat
from stillwatch.siege.moat.copy import Scored, SkillRun, Student, curve_points
from stillwatch.siege.moat.proof import ProseRun
from stillwatch.siege.processes import ProcessGroup
from stillwatch.siege.prose import innocent_pairs, suspect_questions
from stillwatch.siege.round import (
    HISTORY,
    WALLS,
    SiegeKeys,
    play_rounds,
    prepare_round,
    world_config,
    write_history,
    write_round,
)
from stillwatch.siege.server import ServerConfig, run_model_server
from stillwatch.siege.settings import SiegeSettings
from stillwatch.siege.skills import SKILLS, held_out
from stillwatch.siege.teachers import TEACHERS, house_teacher
from stillwatch.siege.watcher import Laps, Unwatched, Watcher
from stillwatch.siege.world import build_world
from stillwatch.trace.outputs import SuspectOutput

#: Added to the run's seed for what must not share its draws.
_HELD_OUT_SEED, _QUESTION_SEED, _INNOCENT_SEED = 101, 202, 303


def run_siege(
    settings: SiegeSettings, out: Path, *, command: str = "", watcher: Watcher | None = None
) -> dict[str, Any]:
    """Run the whole contest and write its report.

    Args:
        settings: seed and sizes.
        out: the folder to write; appears whole when the run is done, or not at all.
        command: how the run was started, for the report.
        watcher: told how far it is.

    Returns:
        The moat report's dictionary, as `moat.json` holds it.

    Raises:
        EnvironmentUnfitError: a port, the disk or a process fails.
        InvalidInputError: `out` is in use by something else.
    """
    # Every process of the run computes on one thread; two fight on a small machine.
    os.environ["OMP_NUM_THREADS"] = "1"
    watcher = Laps(watcher or Unwatched())
    started = time.monotonic()
    with staged_folder(out) as run:
        kept = _play(settings, run, watcher)
        _find_campaigns(run, watcher)
        _make_copies(settings, run, kept=kept, watcher=watcher)
        watcher.stage("writing the report")
        told = _describe_run(settings, out, command=command, duration_s=time.monotonic() - started)
        write_json(run / "run.json", told | {"stages_s": watcher.seconds()})
        report = compute_moat(run)
        write_json(run / "moat.json", report)
        (run / "moat.html").write_text(render_moat(report), "utf-8")
    return report


def _play(settings: SiegeSettings, run: Path, watcher: Watcher) -> dict[str, Sequence[Exchange]]:
    """Play the world twice, the wall off and on, each round with processes of its own."""
    models = {name: house_teacher(name) for name in TEACHERS}
    config = ServerConfig(models=models, marks=SiegeKeys.of(settings.seed).marks)
    with ProcessGroup() as processes, ThreadPoolExecutor(2) as starters:
        watcher.stage("drawing the world, starting the model servers")
        servers = {
            wall: starters.submit(processes.start, f"model server {wall}", run_model_server, config)
            for wall in WALLS
        }
        worlds = {wall: build_world(world_config(settings)) for wall in servers}
        rounds = {
            wall: prepare_round(
                settings,
                run / wall,
                world=worlds[wall],
                model_url=f"http://127.0.0.1:{server.result()}",
                ladder=WALLS[wall],
            )
            for wall, server in servers.items()
        }
        write_history(rounds["off"])
        watcher.stage("starting the gateways")
        gateways = {
            wall: starters.submit(processes.start, f"gateway {wall}", run_gateway, one.gateway)
            for wall, one in rounds.items()
        }
        by_url = {f"http://127.0.0.1:{gateways[w].result()}": one for w, one in rounds.items()}
        play_rounds(by_url, watcher)
        processes.check()
    return {wall: write_round(played) for wall, played in rounds.items()}


def _find_campaigns(run: Path, watcher: Watcher) -> None:
    for wall in ("off", "on"):
        watcher.stage(f"wall {wall}: finding campaigns in the whole record")
        findings = detect(
            scan_store(run / wall / "store"),
            reference=scan_store(run / HISTORY),
            config=DetectConfig(),
        )
        write_findings(findings, run / wall / "findings")


def _make_copies(
    settings: SiegeSettings, run: Path, *, kept: dict[str, Sequence[Exchange]], watcher: Watcher
) -> None:
    skills, students = _skill_jobs(settings, run, kept)
    prose = _prose_jobs(settings, run, kept)
    jobs = [*prose, *skills]
    name = "training and asking the copies"
    watcher.stage(name, total=len(jobs))
    done: list[Trained] = []

    def on_done(trained: Trained) -> None:
        done.append(trained)
        watcher.advance(name, len(done), trained.name)

    results = {trained.name: trained for trained in run_jobs(jobs, on_done=on_done)}
    items = tuple(_items(settings))
    write_json(
        run / "skills.json",
        SkillRun(
            asked_skills=world_config(settings).campaign.skills,
            items=items,
            teacher=results["teacher"],
            students=tuple(
                Student(wall, seed, questions, results[name])
                for name, wall, seed, questions in students
            ),
        ),
    )
    _write_points(run)
    for job in prose:
        answered = zip(job.questions, results[job.name].answers, strict=True)
        rows = [SuspectOutput(answer, question) for question, answer in answered]
        write_lines(run / "outputs" / f"{job.name}.jsonl", rows)
    write_json(
        run / "prose.json",
        ProseRun(
            questions=prose[0].questions,
            suspects={job.name: results[job.name] for job in prose},
            marked_share=_marked_share(run, kept["on"]),
        ),
    )


def _write_points(run: Path) -> None:
    scored = Scored.read(run / "skills.json")
    write_points(run / "points.jsonl", curve_points(scored), dict(scored.teacher))


def _skill_jobs(
    settings: SiegeSettings, run: Path, kept: dict[str, Sequence[Exchange]]
) -> tuple[list[Job], list[tuple[str, str, int, dict[str, int]]]]:
    """Plan the skill students: nested prefixes of the record with the wall off, all of it on."""
    asked, steps = world_config(settings).campaign.skills, settings.student_steps
    questions = tuple(item.question for item in _items(settings))
    jobs, students = [], []
    for wall in ("off", "on"):
        record = [x for x in kept[wall] if x.tags["skill"] in asked]
        budgets = [n for n in settings.budgets if n < len(record)] if wall == "off" else []
        for budget in [len(record), *reversed(budgets)]:
            counts = dict.fromkeys(asked, 0)
            for exchange in record[:budget]:
                counts[exchange.tags["skill"]] += 1
            pairs = tuple(Pair(x.tags["line"], x.answer) for x in record[:budget])
            for seed in settings.seeds:
                name = f"{wall}-{budget}-{seed}"
                out = run / "students" / name
                jobs.append(Job(name, "skills", pairs, questions, seed=seed, out=out, steps=steps))
                students.append((name, wall, seed, counts))
    jobs.append(Job("teacher", "teacher", (), questions, seed=0, out=run, steps=None))
    return jobs, students


def _prose_jobs(
    settings: SiegeSettings, run: Path, kept: dict[str, Sequence[Exchange]]
) -> list[Job]:
    """Plan the suspects: the copy behind the wall, and an innocent with as much ordinary text."""
    questions = suspect_questions(settings.prose_outputs, seed=settings.seed + _QUESTION_SEED)
    marked = [Pair(x.tags["line"], x.answer) for x in kept["on"] if x.tags["skill"] == "prose"]
    innocent = innocent_pairs(max(1, len(marked)), seed=settings.seed + _INNOCENT_SEED)
    steps = settings.prose_steps
    return [
        Job(
            name,
            "prose",
            tuple(pairs),
            tuple(questions),
            seed=settings.seed + number,
            out=run / "students" / name,
            steps=steps,
        )
        for number, (name, pairs) in enumerate([("marked", marked), ("innocent", innocent)])
    ]


def _items(settings: SiegeSettings) -> list[Any]:
    return held_out(settings.seed + _HELD_OUT_SEED, settings.held_out, list(SKILLS))


def _marked_share(run: Path, kept: Sequence[Exchange]) -> float:
    """Compute the share of the campaign's prose answers that carry a mark, by the gateway."""
    wanted = {x.exchange_id for x in kept if x.tags["skill"] == "prose"}
    marked = n_prose = 0
    for batch in scan_store(run / "on" / "store", columns=["exchange_id", "mark_key_id"]):
        for row in batch.to_pylist():
            if row["exchange_id"] in wanted:
                n_prose += 1
                marked += row["mark_key_id"] is not None
    return marked / n_prose if n_prose else 0.0


def _describe_run(
    settings: SiegeSettings, out: Path, *, command: str, duration_s: float
) -> dict[str, Any]:
    world = world_config(settings)
    return {
        "mode": settings.size,
        "seed": settings.seed,
        "days": world.days,
        "campaign_starts_day": world.campaign.first_day,
        "version": __version__,
        "command": command,
        "finished_at": datetime.now(tz=UTC).timestamp(),
        "duration_s": duration_s,
        "out": out.name,
        "settings": settings.as_dict(),
        # The keys of a simulation; a real run keeps them apart from its report.
        "mark_master_key": SiegeKeys.of(settings.seed).mark_master_key.hex(),
    }
