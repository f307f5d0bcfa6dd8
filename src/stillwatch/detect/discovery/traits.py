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
from stillwatch.detect.confirmation.interchange import confirms, first_asked, measure_families
from stillwatch.detect.confirmation.principals import Parties
from stillwatch.detect.discovery.clusters import lead
from stillwatch.detect.profiles.counting import distinct, look_up, numbered, shared_values
from stillwatch.detect.profiles.profile import Digests, Ints, Profiles
from stillwatch.text.ragged import Hashes, Ragged
from stillwatch.text.tokens import mix

#: An exchange bears a family's wording when it carries this share of what its bearers typically
#: do; one chance phrase of a long template is not enough.
CARRIES = 0.3
#: Shingles whose digests overlap this much (Jaccard) are one family's.
_SAME = 0.5
#: A family of which so much lies in people's wording must prove that its users are none.
_WITHIN = 0.8
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


def spread_of(digests: Digests, *, n_accounts: int, least: int = 1) -> Spread:
    """Count the accounts that use each shingle.

    Args:
        digests: of the log, sorted by account.
        n_accounts: accounts of the log.
        least: shingles used by fewer accounts are left out.

    Returns:
        The spread of every shingle.
    """
    places = shared_values(digests.shingles, digests.account, least=least)
    values, inverse = numbered(digests.shingles.values[places])
    width = np.int64(max(n_accounts, 1))
    row = np.searchsorted(digests.shingles.offsets, places, side="right") - 1
    pair = distinct(inverse * width + digests.account[row])
    counts = np.bincount(pair // width, minlength=len(values))
    kept = counts >= least
    return Spread(values[kept], counts[kept].astype(np.int64), n_accounts)


def find_families(
    profiles: Profiles, parties: Parties, reference: Spread | None, *, config: DetectConfig
) -> Families:
    """Group exchanges by rare shared wording, leaving out the wording of people.

    An exchange may carry the wording of several families. Those whose users are plainly
    themselves are people's, whatever else they share, and go; of the others an exchange belongs
    to the one whose users are the most interchangeable.

    Args:
        profiles: the log.
        parties: who stands behind its accounts openly; one party is one asker.
        reference: spread of shingles among honest accounts; None judges by the log alone.
        config: rarity bounds.

    Returns:
        Families, the one with most exchanges first.
    """
    digests = profiles.digests
    least = least_users(config)
    spread = spread_of(digests, n_accounts=profiles.n_accounts, least=least)
    rare = spread.values[_is_rare(spread, reference, config)]
    n_rows = len(digests.account)
    if not len(rare):
        nothing = np.zeros(0, dtype=np.int64)
        return Families(np.full(n_rows, -1), Ragged.empty(0), nothing)
    carried = _gather(*look_up(rare, digests.shingles), len(rare))
    family = _alike(carried, n_rows)
    row, of_row = _bearers(carried, family)
    asker = parties.of_account[digests.account]
    labels = _choose(digests, asker, (row, of_row), config=config)
    return _settle(carried, labels, family=family, rare=rare, reference=reference)


def _is_rare(spread: Spread, reference: Spread | None, config: DetectConfig) -> NDArray[np.bool_]:
    if reference is None or reference.n_accounts == 0:
        return spread.accounts <= config.widest_share * spread.n_accounts
    allowed = max(1.0, config.common_share * reference.n_accounts)
    return reference.of(spread.values) <= allowed


def least_users(config: DetectConfig) -> int:
    """Say how many accounts must share a wording, so that a group of the least size can share two.

    Args:
        config: the least size.

    Returns:
        Accounts (count).
    """
    return max(3, config.min_accounts // 2)


class _Carried(NamedTuple):
    """Which digest carries which rare shingle, one entry a pair, sorted by shingle.

    Attributes:
        row: digest.
        shingle: number of the shingle among the rare ones.
        starts: entries of shingle `i` are `starts[i]:starts[i + 1]`.
    """

    row: Ints
    shingle: Ints
    starts: Ints


def _gather(rows: Ints, shingle: Ints, n_rare: int) -> _Carried:
    # Rows come in order, so that sorting the pairs keeps the rows of each shingle in order too.
    pair = shingle << 32
    pair |= rows
    pair.sort()
    starts = np.zeros(n_rare + 1, dtype=np.int64)
    np.cumsum(np.bincount(shingle, minlength=n_rare), out=starts[1:])
    return _Carried(pair & 0xFFFFFFFF, pair >> 32, starts)


def _alike(carried: _Carried, n_rows: int) -> Ints:
    """Group shingles that live in nearly the same digests; give the family of each, -1 for none.

    A template's own shingles have nearly the same digests; wording that the template merely
    holds, such as what honest people ask about too, has others, and stays a family of its own.
    """
    n_rare = len(carried.starts) - 1
    # Shingles with the same digests have the same sum of scrambled row numbers.
    codes = np.zeros(n_rare, dtype=np.uint64)
    np.add.at(codes, carried.shingle, mix(carried.row.astype(np.uint64) + np.uint64(1)))
    _, first, trait = np.unique(codes, return_index=True, return_inverse=True)
    sizes = np.diff(carried.starts)[first]
    of_trait = np.full(len(first), -1, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")[:_MOST_TRAITS]
    sets = Ragged(carried.row, carried.starts).take(first[order])
    of_trait[order] = lead(
        sets.values.astype(np.int64), sets.offsets, n_members=n_rows, least=_SAME
    )
    return of_trait[trait]


def _bearers(carried: _Carried, family: Ints) -> tuple[Ints, Ints]:
    """List which digests bear which family's wording, a pair each, sorted by digest."""
    of_shingle = family[carried.shingle]
    row, mine = carried.row[of_shingle >= 0], of_shingle[of_shingle >= 0]
    n_families = int(family.max(initial=-1)) + 1
    code, count = np.unique(row * np.int64(max(n_families, 1)) + mine, return_counts=True)
    row, mine = code // max(n_families, 1), code % max(n_families, 1)
    total = np.bincount(mine, count, minlength=n_families)
    typical = total / np.maximum(np.bincount(mine, minlength=n_families), 1)
    enough = count >= np.maximum(1.0, CARRIES * typical[mine])
    return row[enough], mine[enough]


def _choose(
    digests: Digests, asker: Ints, bearers: tuple[Ints, Ints], *, config: DetectConfig
) -> Ints:
    """Give each digest the family whose users are the most interchangeable; -1 for none."""
    row, family = bearers
    labels = np.full(len(asker), -1, dtype=np.int64)
    if not len(row):
        return labels
    n_families = int(family.max()) + 1
    finding = np.flatnonzero(~confirms(digests.key[row]) & first_asked(asker, digests.text)[row])
    own = measure_families(
        family[finding],
        asker[row[finding]],
        digests.words.take(row[finding]),
        n_groups=n_families,
    )
    personal = own.is_personal(config.most_ratio)
    personal |= _within_people(row, family, personal, n_rows=len(labels)) & ~own.is_alike(
        config.most_ratio
    )
    rank = np.where(np.isnan(own.upper), np.inf, own.upper)
    standing = np.lexsort((-own.questions, rank))
    order_of = np.empty(len(standing), dtype=np.int64)
    order_of[standing] = np.arange(len(standing))
    fit = ~personal[family]
    row, family = row[fit], family[fit]
    order = np.lexsort((order_of[family], row))
    row, family = row[order], family[order]
    first = np.searchsorted(row, row) == np.arange(len(row))
    labels[row[first]] = family[first]
    return labels


def _within_people(
    row: Ints, family: Ints, personal: NDArray[np.bool_], *, n_rows: int
) -> NDArray[np.bool_]:
    """Tell which families are a part of people's wording: the end of a template and a word more."""
    theirs = np.zeros(n_rows, dtype=bool)
    theirs[row[personal[family]]] = True
    size = np.bincount(family, minlength=len(personal))
    return np.bincount(family, theirs[row], minlength=len(personal)) >= _WITHIN * size


def _settle(
    carried: _Carried, labels: Ints, *, family: Ints, rare: Hashes, reference: Spread | None
) -> Families:
    """Renumber families by size and say which wording defines each."""
    n_families = int(max(labels.max(initial=-1), family.max(initial=-1))) + 1
    size = np.bincount(labels[labels >= 0], minlength=n_families)
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    number = np.full(n_families + 1, -1, dtype=np.int64)
    number[order] = np.arange(len(order))
    new_family = number[family]
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
