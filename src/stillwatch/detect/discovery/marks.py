"""Marks: who carries which value of what, besides wording.

A table of (account, value) for each kind of trait, from the accounts table and from the exchanges
kept, made once and read by all that ask what accounts share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.facts import Facts, no_facts
from stillwatch.detect.profiles.profile import Ints, Profiles
from stillwatch.text.ragged import Hashes

#: Kinds that the accounts table knows, with the column of `Facts`.
_TABLE = {
    "payment": "payment",
    "signup address": "signup_ip",
    "e-mail": "email",
    "e-mail domain": "email_domain",
    "signup network": "signup_network",
}
#: Kinds that the exchanges show, with the column of `Digests`.
_SEEN = {
    "network": "network",
    "user agent": "agent",
    "system prompt": "system",
    "tools": "tools",
    "parameters": "setup",
}


class Marks(NamedTuple):
    """Who carries which value of one kind; one entry for each account and value.

    Attributes:
        account: account numbers, sorted, shape (n_pairs,).
        number: index into `values`, shape (n_pairs,).
        values: distinct hashes, sorted.
        users: accounts that carry each value (count), shape (n_values,).
    """

    account: Ints
    number: Ints
    values: Hashes
    users: Ints

    @property
    def n_known(self) -> int:
        """Accounts of which at least one value is known (count)."""
        return len(np.unique(self.account))

    def of(self, accounts: Ints) -> Marks:
        """Keep what some accounts carry; `users` still counts the whole log.

        Args:
            accounts: account numbers, sorted, unique.

        Returns:
            Their entries.
        """
        kept = _rows_of(self.account, accounts)
        return self._replace(account=self.account[kept], number=self.number[kept])


def marks_of(profiles: Profiles, facts: Facts | None = None) -> dict[str, Marks]:
    """Tabulate every kind of mark that a log and its accounts table hold.

    Args:
        profiles: the log.
        facts: of its accounts, or None.

    Returns:
        Marks by kind; kinds of which nothing is known are absent.
    """
    facts = facts or no_facts(profiles.n_accounts)
    everyone = np.arange(profiles.n_accounts, dtype=np.int64)
    digests = profiles.digests
    columns = {kind: (everyone, getattr(facts, name)) for kind, name in _TABLE.items()}
    columns |= {kind: (digests.account, getattr(digests, name)) for kind, name in _SEEN.items()}
    found = {kind: _tabulate(account, value) for kind, (account, value) in columns.items()}
    return {kind: marks for kind, marks in found.items() if len(marks.account)}


def _tabulate(account: Ints, value: NDArray[np.uint64]) -> Marks:
    known = value != 0
    values, number = np.unique(value[known], return_inverse=True)
    n = max(len(values), 1)
    code = np.unique(account[known] * np.int64(n) + number)
    number = code % n
    return Marks(code // n, number, values, np.bincount(number, minlength=len(values)))


def _rows_of(account: Ints, wanted: Ints) -> Ints:
    """Give the positions of some accounts' entries in a sorted column."""
    first = np.searchsorted(account, wanted, side="left")
    length = np.searchsorted(account, wanted, side="right") - first
    shift = np.repeat(first - np.concatenate(([0], np.cumsum(length)[:-1])), length)
    return np.asarray(shift + np.arange(int(length.sum())), dtype=np.int64)
