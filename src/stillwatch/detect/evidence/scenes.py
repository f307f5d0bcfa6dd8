"""What a campaign's evidence shows: its days, its web, its worth, counted from profiles alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.discovery.shared import KINDS, is_shared
from stillwatch.detect.discovery.traits import Families
from stillwatch.detect.evidence.exhibits import Node, Timeline, Traits, Value, Web
from stillwatch.detect.evidence.flags import FLAGS
from stillwatch.detect.profiles.profile import Digests, Floats, Ints, Profiles
from stillwatch.text.ragged import Hashes

_DAY_S = 86_400.0
#: Widths of a bin to choose from, and how many bins a picture holds.
_STEPS = (3_600.0, 6 * 3_600.0, _DAY_S, 7 * _DAY_S, 30 * _DAY_S)
_MOST_BINS = 62
#: A time at or below this one is not known: readers write 1 second where a log tells none.
_NO_TIME = 1.0
#: A form of question is told when this share of members' questions has it, twice that of others.
_FLAG_SHARE = 0.05
#: Accounts drawn: a picture of thousands shows nothing.
_MEMBERS_DRAWN, _OTHERS_DRAWN, _SKELETONS_DRAWN = 72, 30, 8


_NONE: Ints = np.empty(0, dtype=np.int64)


class Group(NamedTuple):
    """The accounts and exchanges of a campaign.

    Attributes:
        accounts: account numbers, sorted.
        rows: digests of its questions, sorted.
        families: skeletons that it shares, most exchanges first.
    """

    accounts: Ints
    rows: Ints
    families: Ints


def skeleton_letter(place: int) -> str:
    """Name a skeleton by its place.

    Args:
        place: from 0.

    Returns:
        A, B, ... Z, then AA, AB, ...

    Example:
        >>> skeleton_letter(0), skeleton_letter(27)
        ('A', 'AB')
    """
    first, last = divmod(place, 26)
    return (skeleton_letter(first - 1) if first else "") + chr(ord("A") + last)


def timeline_of(digests: Digests, rows: Ints) -> Timeline | None:
    """Count a campaign's exchanges over time.

    Args:
        digests: the log.
        rows: digests of the campaign.

    Returns:
        The counts, None when no time is known.
    """
    rows = rows[_timed(digests.started_at[rows])]
    if not len(rows):
        return None
    times, account = digests.started_at[rows], digests.account[rows]
    span = float(times.max() - times.min())
    step = next((s for s in _STEPS if span / s < _MOST_BINS), _STEPS[-1])
    start = float(np.floor(times.min() / step) * step)
    place = ((times - start) // step).astype(np.int64)
    n_bins = int(place.max()) + 1
    _, number = np.unique(account, return_inverse=True)
    active = np.unique(place * np.int64(number.max() + 1) + number) // (number.max() + 1)
    first = np.full(int(number.max()) + 1, n_bins, dtype=np.int64)
    np.minimum.at(first, number, place)
    others = np.ones(len(digests.account), dtype=bool)
    others[rows] = False
    others &= _timed(digests.started_at)
    return Timeline(
        start=start,
        step_s=step,
        questions=_counts(place, n_bins),
        active=_counts(active, n_bins),
        joined=_counts(first, n_bins),
        hours=_counts(_hour(times), 24),
        other_hours=_counts(_hour(digests.started_at[others]), 24),
    )


def value_of(profiles: Profiles, rows: Ints) -> Value:
    """Count, or infer from the sample kept of each account, what a campaign took.

    Args:
        profiles: the log.
        rows: digests of the campaign.

    Returns:
        Exchanges and tokens. An account of which only a sample is kept counts with the sample's
        share of campaign questions and of tokens.
    """
    digests, totals = profiles.digests, profiles.totals
    n = profiles.n_accounts
    kept = np.bincount(digests.account, minlength=n)
    weight = totals.exchanges / np.maximum(kept, 1)
    mine = digests.account[rows]
    members = np.unique(mine)
    tokens = float((digests.output_tokens[rows] * weight[mine]).sum())
    input_tokens = _input_tokens(profiles, np.bincount(mine, minlength=n) / np.maximum(kept, 1))
    every = float(totals.output_tokens.sum())
    return Value(
        kept=len(rows),
        exchanges=round(float(weight[mine].sum())),
        output_tokens=round(tokens),
        input_tokens=input_tokens,
        is_exact=bool((kept[members] == totals.exchanges[members]).all()),
        share_of_log=min(tokens / every, 1.0) if every else 0.0,
        flags=_flags(profiles, members),
    )


def _flags(profiles: Profiles, members: Ints) -> dict[str, tuple[float, float]]:
    """Compare what members' questions ask for with what others' do; only what stands out."""
    totals = profiles.totals
    mine = np.zeros(profiles.n_accounts, dtype=bool)
    mine[members] = True
    asked = max(int(totals.exchanges[mine].sum()), 1), max(int(totals.exchanges[~mine].sum()), 1)
    here = totals.flags[mine].sum(axis=0, dtype=np.int64) / asked[0]
    there = totals.flags[~mine].sum(axis=0, dtype=np.int64) / asked[1]
    order = np.argsort(-(here - there), kind="stable")
    return {
        FLAGS[i].replace("_", " "): (round(float(here[i]), 4), round(float(there[i]), 4))
        for i in order.tolist()
        if here[i] >= _FLAG_SHARE and here[i] >= 2.0 * there[i]
    }


def web_of(profiles: Profiles, families: Families, group: Group, *, traits: Traits) -> Web:
    """Choose what to draw of a campaign: who shares what with whom.

    Args:
        profiles: the log.
        families: its families of rare wording.
        group: the campaign.
        traits: what else its members share.

    Returns:
        A sample of members and of others, joined to skeletons and shared traits.
    """
    digests = profiles.digests
    mine = np.zeros(profiles.n_accounts, dtype=bool)
    mine[group.accounts] = True
    things = _things(digests, families, group, traits=traits)
    touched = np.unique(np.concatenate([digests.account[rows] for _, _, rows in things] or [_NONE]))
    strangers = touched[~mine[touched]]
    drawn = np.concatenate([
        _evenly(group.accounts, _MEMBERS_DRAWN),
        _evenly(strangers, _OTHERS_DRAWN),
    ])
    asked = np.bincount(digests.account[group.rows], minlength=profiles.n_accounts)
    nodes = [Node(id=name, kind="trait", label=label) for name, label, _ in things]
    edges = []
    names = profiles.accounts.take(drawn).to_pylist()
    for account, name in zip(drawn.tolist(), names, strict=True):
        count = asked[account] if mine[account] else profiles.totals.exchanges[account]
        node = Node(id=f"a{account}", kind="account", label=name, member=bool(mine[account]),
                    exchanges=int(count))  # fmt: skip
        nodes.append(node)
    for thing, _, rows in things:
        users = np.intersect1d(digests.account[rows], drawn)
        edges += [(f"a{account}", thing) for account in users.tolist()]
    return Web(
        nodes=tuple(nodes),
        edges=tuple(edges),
        members=len(group.accounts),
        others=len(strangers),
    )


def _things(
    digests: Digests, families: Families, group: Group, *, traits: Traits
) -> list[tuple[str, str, Ints]]:
    """List what can be shared: id, label, and all digests of the log that have it."""
    found = []
    for place, family in enumerate(group.families[:_SKELETONS_DRAWN].tolist()):
        letter = skeleton_letter(place)
        rows = np.flatnonzero(families.of_digest == family)
        found.append((f"w{place}", f"wording {letter}", rows))
    columns = {kind: name for name, kind in KINDS.items()}
    for place, trait in enumerate(traits.items):
        if trait.kind in columns and is_shared(trait):
            column: Hashes = getattr(digests, columns[trait.kind])
            keys = digests.key[group.rows] == np.uint64(int(trait.sample, 16))
            value = column[group.rows[keys][0]]
            found.append((f"t{place}", trait.kind, np.flatnonzero(column == value)))
    return found


def _input_tokens(profiles: Profiles, share: Floats) -> int | None:
    tokens = profiles.totals.input_tokens
    return round(float((tokens * share).sum())) if tokens.any() else None


def _timed(times: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(times) & (times > _NO_TIME), dtype=np.bool_)


def _hour(times: Floats) -> Ints:
    return np.asarray((times % _DAY_S) // 3_600.0, dtype=np.int64)


def _counts(places: Ints, n_bins: int) -> tuple[int, ...]:
    return tuple(np.bincount(places, minlength=n_bins)[:n_bins].tolist())


def _evenly(values: Ints, most: int) -> Ints:
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).astype(np.int64)]
