"""Assembles the moat report's dictionary from the files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.record.exchange import Exchange
from stillwatch.record.store import count_exchanges
from stillwatch.siege.folder import digest, read_json, read_lines
from stillwatch.siege.moat.checks import check_promises
from stillwatch.siege.moat.copy import Scored, describe_copy
from stillwatch.siege.moat.proof import describe_proof
from stillwatch.siege.moat.rounds import (
    CAMPAIGN,
    RoundRecord,
    describe_round,
    honest_groups,
)
from stillwatch.siege.moat.web import describe_web
from stillwatch.siege.round import HISTORY
from stillwatch.siege.settings import Prices
from stillwatch.siege.world_audit import trivial_fields

SCHEMA = "stillwatch.moat/1"
_NOT_TESTED = (
    "Real users: the honest accounts are drawn from habits that we wrote, calibrated on real ones.",
    "A campaign that matches its topics to honest traffic, paraphrases every wrapper, or hides in "
    "accounts of real customers.",
    "Large models: teacher and students are small enough to train here in seconds; question counts "
    "do not carry over to other skills or sizes.",
    "A copier who rewrites the prose answers before training, which weakens or removes the mark.",
    "Other ways to prove a copy than the watermark: canaries, lineage, shared errors.",
)


def compute_moat(run: Path) -> dict[str, Any]:
    """Compute every number of the moat report from a run's files.

    Args:
        run: the run's folder.

    Returns:
        The dictionary that `moat.json` holds and `report.moat_page` renders.
    """
    told = read_json(run / "run.json")
    settings = told["settings"]
    prices = msgspec.convert(settings["prices"], Prices)
    kept = {wall: _kept(run, wall) for wall in ("off", "on")}
    rounds = {wall: RoundRecord.read(run / wall, kept[wall]) for wall in ("off", "on")}
    scored = Scored.read(run / "skills.json")
    runs = {
        wall: describe_round(record, prices=prices, days=told["days"])
        for wall, record in rounds.items()
    }
    for wall in runs:
        runs[wall]["campaign"]["share_kept"] = scored.share_kept(wall)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "run": {name: told[name] for name in _RUN_FIELDS} | {"settings": _flat(settings)},
        "world": _world(run, rounds["off"]),
        "copy": describe_copy(scored, seed=settings["seed"]),
        "runs": runs,
        "cost": _cost(prices, scored),
        "graph": describe_web(rounds["off"]),
        "proof": describe_proof(
            run / "prose.json",
            rounds["on"],
            master_key=bytes.fromhex(told["mark_master_key"]),
            seed=settings["seed"],
            n_decoys=settings["decoys"],
        ),
        "not_tested": list(_NOT_TESTED),
        "verify": {
            "command": f"stillwatch siege verify {told['out']}",
            "files": [
                {"path": name, "sha256": digest(run / name), "bytes": (run / name).stat().st_size}
                for name in _READ
            ],
        },
    }
    return report | {"checks": check_promises(report)}


_RUN_FIELDS = (
    "mode", "seed", "days", "campaign_starts_day", "version", "command", "finished_at",
    "duration_s",
)  # fmt: skip


#: What the numbers are computed from, beside the stores of `off`, `on` and `history`.
_READ = (
    "run.json",
    "skills.json",
    "prose.json",
    *(
        f"{wall}/{name}"
        for wall in ("off", "on")
        for name in ("copier.jsonl", "learned.jsonl", "truth.json", "findings/campaigns.json")
    ),
)


def _kept(run: Path, wall: str) -> list[Exchange]:
    return [msgspec.convert(row, Exchange) for row in read_lines(run / wall / "copier.jsonl")]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in settings.items()
        if not isinstance(value, dict)
    }


def _world(run: Path, off: RoundRecord) -> dict[str, Any]:
    fields = trivial_fields(off.exchanges, off.guilty)
    present = {exchange.account for exchange in off.exchanges}
    honest = sum(off.roles[account] != CAMPAIGN for account in present)
    return {
        "honest_accounts": honest,
        "campaign_accounts": len(off.guilty),
        "history_exchanges": count_exchanges(run / HISTORY),
        "live_exchanges": len(off.exchanges),
        "honest_groups": honest_groups(off),
        "trivial_fields": {name: max(auc, 1.0 - auc) for name, auc in fields.items()},
    }


def _cost(prices: Prices, scored: Scored) -> dict[str, Any]:
    cpu = {}
    for wall in ("off", "on"):
        largest = scored.largest(wall)
        cpu[wall] = (
            sum(student.trained.cpu_s for student, _ in largest) / len(largest) if largest else None
        )
    row = {"label": "Training the copy, processor time", **cpu, "unit": "s"}
    return {
        "prices": {
            "usd_per_million_input": prices.usd_per_million_input,
            "usd_per_million_output": prices.usd_per_million_output,
            "source": prices.source,
        },
        "rows": [row],
    }
