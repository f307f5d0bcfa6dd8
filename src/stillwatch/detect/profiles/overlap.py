"""Whether a log was folded before: the kept samples of exchanges are compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from stillwatch.detect.profiles.profile import Digests, Profiles, Totals
from stillwatch.text.ragged import Hashes

_UNKNOWN = -1


class Overlap(NamedTuple):
    """What two profiles have in common.

    Attributes:
        n_shared: exchanges of the new log's sample that the older sample holds (count).
        n_looked_for: exchanges of the new log's sample that the older one would hold, had its log
            held them (count).
        is_whole: every one was found, and sums and times allow no more: the log was folded before.
    """

    n_shared: int
    n_looked_for: int
    is_whole: bool


def find_overlap(kept: Profiles, fresh: Profiles) -> Overlap:
    """Compare the samples of two logs.

    What is kept of an account are the smallest keys, so an exchange of both logs with a small key
    is in both samples: a shared one is proof, and a log that was folded before shows all of them.

    Args:
        kept: the older profiles.
        fresh: the new ones.

    Returns:
        What they share.
    """
    if not kept.n_accounts or not fresh.n_accounts:
        return Overlap(0, 0, is_whole=False)
    found = pc.fill_null(pc.index_in(fresh.accounts, value_set=kept.accounts), _UNKNOWN)
    older: NDArray[np.int64] = found.to_numpy(zero_copy_only=False).astype(np.int64)
    account = older[fresh.digests.account]
    sampled = account != _UNKNOWN
    sampled &= fresh.digests.key <= _largest_keys(kept)[account]
    shared = np.isin(
        _identity(fresh.digests, account)[sampled],
        _identity(kept.digests, kept.digests.account),
    )
    whole = bool(shared.any() and shared.all() and _is_within(fresh.totals, kept.totals, older))
    return Overlap(int(shared.sum()), len(shared), is_whole=whole)


def _is_within(fresh: Totals, kept: Totals, older: NDArray[np.int64]) -> bool:
    """Tell whether sums and times allow that one log is a part of the other."""
    if np.any(older == _UNKNOWN):
        return False
    later = fresh.last_seen > kept.last_seen[older]
    earlier = fresh.first_seen < kept.first_seen[older]
    larger = [
        getattr(fresh, name) > getattr(kept, name)[older]
        for name in ("exchanges", "input_tokens", "output_tokens", "refused")
    ]
    more = (fresh.hours > kept.hours[older]).any(axis=1)
    return not np.any([later, earlier, more, *larger])


def _largest_keys(kept: Profiles) -> Hashes:
    """Give the key up to which the sample of each account is complete, shape (n_accounts,)."""
    digests, n = kept.digests, kept.n_accounts
    largest = np.zeros(n, dtype=np.uint64)
    np.maximum.at(largest, digests.account, digests.key)
    everything = np.bincount(digests.account, minlength=n) == kept.totals.exchanges
    return np.where(everything, np.uint64(2**64 - 1), largest)


def _identity(digests: Digests, account: NDArray[np.int64]) -> Hashes:
    """Hash what makes an exchange this one: ids alone may be line numbers, the same each day."""
    mixed = digests.key ^ _spread(account.astype(np.uint64))
    mixed = _spread(mixed) ^ digests.started_at.view(np.uint64)
    return _spread(_spread(mixed) ^ digests.text.astype(np.uint64))


def _spread(values: Hashes) -> Hashes:
    # the finaliser of splitmix64 (Steele, Lea, Flood 2014)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)
