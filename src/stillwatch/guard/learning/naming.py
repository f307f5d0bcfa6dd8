"""Keeps a campaign's name while its accounts come and go from day to day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def keep_names(
    found: Sequence[frozenset[str]],
    known: Mapping[str, frozenset[str]],
    *,
    proposed: Sequence[str],
) -> list[str]:
    """Give each group found today the name of the known campaign that it overlaps best.

    Overlap is Jaccard's; pairs are taken greedily from the best down, one to one, and any overlap
    counts: accounts belong to one campaign at a time, so a shared one means the same web, grown or
    split. A part that split off gets its own proposed name, made unique when that is taken.

    Args:
        found: accounts of each group found today.
        known: campaign id -> its accounts so far.
        proposed: the name that each group gets when it is new; as many as `found`.

    Returns:
        One name a group, in order, all different.
    """
    scored = [
        (_jaccard(group, accounts), index, campaign_id)
        for index, group in enumerate(found)
        for campaign_id, accounts in known.items()
    ]
    names: dict[int, str] = {}
    taken: set[str] = set()
    for overlap, index, campaign_id in sorted(scored, key=lambda s: (-s[0], s[1], s[2])):
        if overlap > 0 and index not in names and campaign_id not in taken:
            names[index] = campaign_id
            taken.add(campaign_id)
    for index, proposal in enumerate(proposed):
        if index not in names:
            names[index] = _unused(proposal, taken | known.keys())
            taken.add(names[index])
    return [names[index] for index in range(len(found))]


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 0.0


def _unused(proposal: str, taken: set[str]) -> str:
    name, number = proposal, 2
    while name in taken:
        name, number = f"{proposal}-{number}", number + 1
    return name
