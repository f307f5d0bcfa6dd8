"""The wording that a group shares, skeleton by skeleton, with questions that show it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stillwatch.detect.discovery.blocks import Block
from stillwatch.detect.discovery.shared import key_text, spread_rows
from stillwatch.detect.discovery.traits import Families
from stillwatch.detect.evidence.exhibits import Quote, Wording, Wordings
from stillwatch.detect.evidence.quotes import mark_shared
from stillwatch.detect.evidence.scenes import skeleton_letter
from stillwatch.detect.findings import Evidence
from stillwatch.detect.members.companions import Companions
from stillwatch.detect.profiles.profile import Ints, Profiles

_EXAMPLES = 4
#: Skeletons told one by one, and exchanges of each that are quoted.
_SKELETONS, _QUOTED = 6, 6
#: Exchanges whose keys are noted of each skeleton, for whoever reads the log again.
_SAMPLED = 24


def describe_wording(
    profiles: Profiles, families: Families, block: Block, *, given: bool
) -> Evidence:
    """Say what wording a block shares, and how rare it is among others.

    Args:
        profiles: the log.
        families: its families of rare wording.
        block: the block.
        given: whether a reference was given.

    Returns:
        The evidence, its skeletons as exhibit.
    """
    items = _items(profiles, families, block)
    known = int(families.elsewhere[block.families].max(initial=0))
    among = f"to at most {known} reference accounts" if known else "to no reference account"
    n, skeletons = len(block.accounts), len(block.families)
    parts = ", ".join(f"{item.members:,}" for item in items[:3])
    text = (
        f"{n:,} accounts share {skeletons} rare skeleton{'s' * (skeletons != 1)} (used by {parts} "
        f"of them), known {among if given else 'to almost nobody else in the log'}."
    )
    examples = [quote.text for item in items[:3] for quote in item.quotes[:2]]
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
        exhibit=Wordings(items=items, total=len(block.families)),
    )


def _items(profiles: Profiles, families: Families, block: Block) -> tuple[Wording, ...]:
    digests = profiles.digests
    mine = np.zeros(profiles.n_accounts, dtype=bool)
    mine[block.accounts] = True
    items = []
    for place, family in enumerate(block.families[:_SKELETONS].tolist()):
        every = np.flatnonzero(families.of_digest == family)
        users = np.unique(digests.account[every])
        rows = every[mine[digests.account[every]]]
        picked = spread_rows(digests, rows, _SAMPLED)
        item = Wording(
            name=skeleton_letter(place),
            members=int(mine[users].sum()),
            exchanges=len(rows),
            others=int((~mine[users]).sum()),
            reference=int(families.elsewhere[family]),
            samples=tuple(key_text(digests, row) for row in picked.tolist()),
            quotes=quote_rows(profiles, picked[:_QUOTED]),
        )
        items.append(item)
    return tuple(items)


def quote_rows(profiles: Profiles, rows: Ints) -> tuple[Quote, ...]:
    """Quote the beginnings that the profiles kept, the shared wording marked.

    Args:
        profiles: the log.
        rows: digests to quote side by side.

    Returns:
        One quote a digest of which text was kept.
    """
    digests = profiles.digests
    texts = [text or "" for text in digests.excerpt.take(pa.array(rows)).to_pylist()]
    ids = [name or "" for name in digests.exchange_id.take(pa.array(rows)).to_pylist()]
    accounts = profiles.accounts.take(pa.array(digests.account[rows])).to_pylist()
    return tuple(
        Quote(account=account, text=text, marks=marks, exchange_id=name, started_at=float(time))
        for account, text, marks, name, time in zip(
            accounts, texts, mark_shared(texts), ids, digests.started_at[rows], strict=True
        )
        if text
    )


def describe_companions(profiles: Profiles, companions: Companions) -> Evidence:
    """Say who joined a campaign without its wording.

    Args:
        profiles: the log.
        companions: those who joined.

    Returns:
        The evidence, what they ask as exhibit.
    """
    digests = profiles.digests
    picked = spread_rows(digests, companions.rows, _SAMPLED)
    quotes = quote_rows(profiles, picked[:_QUOTED])
    text = (
        f"{len(companions.accounts)} further accounts wrap each question anew, but ask what the "
        f"campaign asks and never say again what they said before; by the same rule "
        f"{companions.decoys} reference accounts would have joined."
    )
    item = Wording(
        name="other",
        members=len(companions.accounts),
        exchanges=len(companions.rows),
        others=0,
        reference=companions.decoys,
        samples=tuple(key_text(digests, row) for row in picked.tolist()),
        quotes=quotes,
    )
    return Evidence(
        kind="companions",
        text=text,
        examples=tuple(quote.text for quote in quotes[:_EXAMPLES]),
        figures={
            "accounts": float(len(companions.accounts)),
            "reference_accounts": float(companions.decoys),
        },
        exhibit=Wordings(items=(item,), total=1),
    )
