"""Rare shared wording: which skeletons several accounts use and the reference hardly knows.

A long template has dozens of shingles; counted one by one it would outweigh everything else. So
shingles with the same set of exchanges are one trait, and traits that live in the same exchanges
are one family: a template, in plain words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.profile import Ints, Profiles
from stillwatch.text.ragged import Hashes, Ragged
from stillwatch.text.tokens import mix

#: An exchange joins a family when it carries this share of the wording that the family shares;
#: one chance phrase of a long template is not enough.
_CARRIES = 0.3
#: Traits looked at, most exchanges first: bounds the work on a log of any size.
_MOST_TRAITS = 20_000


class Spread(NamedTuple):
    """How widely each shingle is used.

    Attributes:
        values: distinct shingles, sorted.
        accounts: accounts that use each (count).
        n_accounts: accounts looked at.
    """

    values: Hashes
    accounts: Ints
    n_accounts: int

    def of(self, values: Hashes) -> Ints:
        """Look shingles up.

        Args:
            values: shape (n,).

        Returns:
            Accounts that use each, 0 when unknown, shape (n,).
        """
        if not len(self.values):
            return np.zeros(len(values), dtype=np.int64)
        place = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
        return np.where(self.values[place] == values, self.accounts[place], 0)


class Families(NamedTuple):
    """Exchanges grouped by the rare wording they carry.

    Attributes:
        of_digest: family of each digest, -1 for none, shape (n_digests,).
        shingles: rare shingles that define each family, one row a family.
        elsewhere: reference accounts that know the family's rarest half of wording (count).
    """

    of_digest: Ints
    shingles: Ragged
    elsewhere: Ints

    @property
    def n_families(self) -> int:
        """How many."""
        return len(self.shingles)


def spread_of(shingles: Ragged, account: Ints, *, n_accounts: int) -> Spread:
    """Count the accounts that use each shingle.

    Args:
        shingles: one row a digest.
        account: account of each digest.
        n_accounts: accounts of the log.

    Returns:
        The spread of every shingle.
    """
    values, inverse = np.unique(shingles.values, return_inverse=True)
    pair = np.unique(inverse * np.int64(max(n_accounts, 1)) + account[shingles.rows])
    counts = np.bincount(pair // max(n_accounts, 1), minlength=len(values))
    return Spread(values, counts.astype(np.int64), n_accounts)


def find_families(profiles: Profiles, reference: Spread | None, config: DetectConfig) -> Families:
    """Group exchanges by rare shared wording.

    Args:
        profiles: the log.
        reference: spread of shingles among honest accounts; None judges by the log alone.
        config: rarity bounds.

    Returns:
        Families, the one with most exchanges first.
    """
    digests = profiles.digests
    spread = spread_of(digests.shingles, digests.account, n_accounts=profiles.n_accounts)
    rare = spread.values[_is_rare(spread, reference, config)]
    place = np.searchsorted(rare, digests.shingles.values)
    known = (place < len(rare)) & (
        rare[np.minimum(place, max(len(rare) - 1, 0))] == digests.shingles.values
        if len(rare)
        else np.zeros(len(place), dtype=bool)
    )
    rows, values = digests.shingles.rows[known], place[known]
    labels, family_of_shingle = _grow(rows, values, n_rare=len(rare), n_rows=len(digests.account))
    return _settle(
        rows, values, labels=labels, family=family_of_shingle, rare=rare, reference=reference
    )


def _is_rare(spread: Spread, reference: Spread | None, config: DetectConfig) -> NDArray[np.bool_]:
    shared = spread.accounts >= max(3, config.min_accounts // 2)
    if reference is None or reference.n_accounts == 0:
        return shared & (spread.accounts <= config.widest_share * spread.n_accounts)
    allowed = max(1.0, config.common_share * reference.n_accounts)
    return shared & (reference.of(spread.values) <= allowed)


def _grow(rows: Ints, values: Ints, *, n_rare: int, n_rows: int) -> tuple[Ints, Ints]:
    """Label digests and shingles with families, the most used traits first."""
    labels = np.full(n_rows, -1, dtype=np.int64)
    family = np.full(n_rare, -1, dtype=np.int64)
    if not n_rare:
        return labels, family
    # Shingles with the same exchanges have the same sum of scrambled row numbers.
    codes = np.zeros(n_rare, dtype=np.uint64)
    np.add.at(codes, values, mix(rows.astype(np.uint64) + np.uint64(1)))
    _, first, trait = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(values, kind="stable")
    starts = np.searchsorted(values[order], np.arange(n_rare + 1))
    sizes = np.diff(starts)[first]
    of_trait = np.full(len(first), -1, dtype=np.int64)
    n_families = 0
    for number in np.argsort(-sizes, kind="stable")[:_MOST_TRAITS].tolist():
        shingle = first[number]
        mine = rows[order[starts[shingle] : starts[shingle + 1]]]
        taken = labels[mine]
        counts = np.bincount(taken[taken >= 0], minlength=1)
        best = int(counts.argmax())
        if counts[best] * 2 >= len(mine):
            of_trait[number] = best
        else:
            of_trait[number], n_families = n_families, n_families + 1
        labels[mine[taken < 0]] = of_trait[number]
    return labels, of_trait[trait]


def _settle(
    rows: Ints, values: Ints, *, labels: Ints, family: Ints, rare: Hashes, reference: Spread | None
) -> Families:
    """Keep exchanges that carry enough of their family's wording; renumber by size."""
    mine = (family[values] == labels[rows]) & (labels[rows] >= 0)
    rows, values = rows[mine], values[mine]
    n_families = int(max(labels.max(initial=-1), family.max(initial=-1))) + 1
    if n_families == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Families(labels, Ragged(rare[:0], np.zeros(1, dtype=np.int64)), nothing)
    size = np.bincount(labels[labels >= 0], minlength=n_families)
    use = np.bincount(values, minlength=len(rare))
    # The core is what a fifth of the family's exchanges carry; the rest are slots and chance.
    core = (family >= 0) & (use >= 0.2 * size[np.maximum(family, 0)])
    typical = np.bincount(labels[rows], weights=core[values], minlength=n_families) / np.maximum(
        size, 1
    )
    carried = np.bincount(rows[core[values]], minlength=len(labels))
    weak = carried < np.maximum(1, _CARRIES * typical[np.maximum(labels, 0)])
    labels = np.where(weak, -1, labels)
    size = np.bincount(labels[labels >= 0], minlength=n_families)
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    number = np.full(n_families + 1, -1, dtype=np.int64)
    number[order] = np.arange(len(order))
    new_family = number[np.where(core, family, n_families)]
    kept = np.argsort(new_family, kind="stable")
    kept = kept[new_family[kept] >= 0]
    offsets = np.searchsorted(new_family[kept], np.arange(len(order) + 1))
    shingles = Ragged(rare[kept], offsets)
    elsewhere = np.zeros(len(order), dtype=np.int64)
    if reference is not None:
        known = reference.of(shingles.values)
        for i in range(len(order)):
            part = known[offsets[i] : offsets[i + 1]]
            elsewhere[i] = int(np.median(part)) if len(part) else 0
    return Families(number[labels], shingles, elsewhere)
