"""Evidence in words: what a person can check, and what else it could be."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from stillwatch.detect.blocks import Block
from stillwatch.detect.calibrate import Tested
from stillwatch.detect.companions import Companions
from stillwatch.detect.confirm import Judged
from stillwatch.detect.findings import Evidence
from stillwatch.detect.profile import Ints, Profiles
from stillwatch.detect.traits import Families

_EXAMPLES = 4
_SKELETONS = 3


def skeleton_name(families: Families, block: Block) -> str:
    """Name a block after the wording it shares.

    Args:
        families: of the log.
        block: the block.

    Returns:
        Such as `web-3f9a1c22`: the smallest shingle of its largest family.
    """
    shingles = families.shingles.take(block.families[:1]).values
    return f"web-{int(shingles.min()) >> 32:08x}"


def describe(
    profiles: Profiles,
    families: Families,
    judged: Judged,
    *,
    companions: Companions,
    given: bool,
) -> tuple[Evidence, ...]:
    """Say why a block is a campaign.

    Args:
        profiles: the log.
        families: its families of rare wording.
        judged: the block and its tests.
        companions: accounts that joined without sharing the wording.
        given: whether a reference was given; else the log's own bulk stood in.

    Returns:
        Evidence, the strongest reasons first, the innocent explanation last.
    """
    block, found = judged.block, [_wording(profiles, families, judged.block, given=given)]
    if judged.tested is not None:
        found.append(_interchangeable(judged.tested))
    found.append(_revisits(judged))
    if len(companions.accounts):
        found.append(_companions(profiles, companions))
    rows = np.union1d(block.rows, companions.rows)
    found += [_timeline(profiles, rows), _value(profiles, rows)]
    found.append(
        Evidence(
            kind="innocent explanation",
            text="One party that splits a labelling or evaluation job over accounts which it did "
            "not declare as its own looks the same; ask for whom the accounts work.",
        )
    )
    return tuple(found)


def _wording(profiles: Profiles, families: Families, block: Block, *, given: bool) -> Evidence:
    digests = profiles.digests
    examples, parts = [], []
    for family in block.families[:_SKELETONS].tolist():
        rows = np.flatnonzero(families.of_digest == family)
        users = len(np.unique(digests.account[rows]))
        parts.append(f"{users} of {len(block.accounts)}")
        examples.extend(
            digests.excerpt.take(pa.array(rows[:: max(1, len(rows) // 2)][:2])).to_pylist()
        )
    known = int(families.elsewhere[block.families].max(initial=0))
    among = f"{known} reference accounts" if given else "almost nobody else in the log"
    text = (
        f"{len(block.accounts)} accounts share {len(block.families)} rare skeletons "
        f"(used by {', '.join(parts)} of them), known to at most {among}."
    )
    return Evidence(
        kind="shared wording",
        text=text,
        examples=tuple(examples[:_EXAMPLES]),
        figures={
            "accounts": float(len(block.accounts)),
            "skeletons": float(len(block.families)),
            "exchanges": float(len(block.rows)),
            "reference_accounts": float(known),
        },
    )


def _interchangeable(tested: Tested) -> Evidence:
    middle = float(np.median(tested.null))
    text = (
        f"Members are interchangeable: apart from the shared wording, a rare word returns to the "
        f"same account {tested.whole.ratio:.1f} times as often as chance gives. Compared at "
        f"{tested.scale.accounts} accounts, the upper bound is {tested.upper:.1f}; the lowest of "
        f"{len(tested.null)} honest groups has {tested.null[0]:.1f}, the middle one {middle:.1f} "
        f"(p = {tested.p_value:.2g}; by rank alone {tested.rank_p_value:.2g})."
    )
    return Evidence(
        kind="interchangeable members",
        text=text,
        figures={
            "ratio": tested.ratio,
            "upper": tested.upper,
            "honest_middle": middle,
            "honest_lowest": float(tested.null[0]),
            "p_value": tested.p_value,
            "rank_p_value": tested.rank_p_value,
        },
    )


def _revisits(judged: Judged) -> Evidence:
    text = (
        f"The queue hands out each item once: {judged.revisited:.1%} of {len(judged.block.rows)} "
        "questions were also asked by another member."
    )
    return Evidence(kind="nothing asked twice", text=text, figures={"revisited": judged.revisited})


def _companions(profiles: Profiles, companions: Companions) -> Evidence:
    shown = companions.rows[:: max(1, len(companions.rows) // _EXAMPLES)][:_EXAMPLES]
    text = (
        f"{len(companions.accounts)} further accounts wrap each question anew, but ask what the "
        f"campaign asks and never say again what they said before; by the same rule "
        f"{companions.decoys} reference accounts would have joined."
    )
    return Evidence(
        kind="companions",
        text=text,
        examples=tuple(profiles.digests.excerpt.take(pa.array(shown)).to_pylist()),
        figures={
            "accounts": float(len(companions.accounts)),
            "reference_accounts": float(companions.decoys),
        },
    )


def _timeline(profiles: Profiles, rows: Ints) -> Evidence:
    times = profiles.digests.started_at[rows]
    day = np.floor(times / 86_400.0).astype(np.int64)
    counts = np.bincount(day - day.min())
    return Evidence(
        kind="timeline",
        text=f"{_date(times.min())} to {_date(times.max())}: {len(rows)} questions on "
        f"{int((counts > 0).sum())} days, at most {int(counts.max())} on one.",
        figures={f"day_{i + 1}": float(n) for i, n in enumerate(counts.tolist())},
    )


def _value(profiles: Profiles, rows: Ints) -> Evidence:
    tokens = int(profiles.digests.output_tokens[rows].sum())
    return Evidence(
        kind="value taken",
        text=f"{tokens:,} output tokens in answer to {len(rows):,} of these questions.",
        figures={"output_tokens": float(tokens), "exchanges": float(len(rows))},
    )


def _date(time_s: float) -> str:
    if not math.isfinite(time_s):
        return "?"
    return datetime.fromtimestamp(float(time_s), UTC).strftime("%Y-%m-%d")
