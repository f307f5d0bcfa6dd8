"""What members share besides their wording, and how rare that is among everybody else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.evidence.exhibits import Trait, Traits
from stillwatch.detect.facts import Facts
from stillwatch.detect.profiles.profile import Digests, Ints, Profiles
from stillwatch.text.ragged import Hashes

#: Column of a digest -> what it is called; 0 in it means that the log does not say.
KINDS = {
    "system": "system prompt",
    "tools": "tool definitions",
    "setup": "model and settings",
    "network": "network",
    "agent": "client software",
    "org": "organisation",
}
#: Column of the facts -> what it is called.
FACTS = {
    "payment": "payment mark",
    "signup_network": "network at sign-up",
    "email_domain": "e-mail domain",
    "reseller": "reseller",
}


class Holders(NamedTuple):
    """Which values of a trait how many accounts have.

    Attributes:
        values: distinct values, 0 left out, sorted.
        accounts: accounts that have each (count).
        known: accounts of which any value is known (count).
    """

    values: Hashes
    accounts: Ints
    known: int

    def of(self, value: int) -> int:
        """Count the accounts that have a value.

        Args:
            value: the hash.

        Returns:
            Accounts (count).
        """
        place = int(np.searchsorted(self.values, np.uint64(value)))
        found = place < len(self.values) and int(self.values[place]) == int(value)
        return int(self.accounts[place]) if found else 0


def holders(values: Hashes, account: Ints) -> Holders:
    """Count the accounts that have each value of a trait.

    Args:
        values: one an exchange; 0 is not known.
        account: account of each exchange.

    Returns:
        Values and their accounts.
    """
    known = values != 0
    values, account = values[known], account[known]
    distinct, number = np.unique(values, return_inverse=True)
    width = np.int64(int(account.max(initial=0)) + 1)
    pairs = np.unique(number * width + account)
    counts = np.bincount(pairs // width, minlength=len(distinct)).astype(np.int64)
    return Holders(distinct, counts, len(np.unique(account)))


def shared_traits(
    profiles: Profiles,
    rows: Ints,
    members: Ints,
    *,
    reference: Profiles | None = None,
    facts: Facts | None = None,
) -> Traits:
    """Describe what the members of a group share besides wording.

    Args:
        profiles: the log.
        rows: digests of the group's questions.
        members: account numbers of the group.
        reference: honest accounts.
        facts: what the accounts table knows of the log's accounts, None without one.

    Returns:
        One entry a kind of trait that the log knows, the most telling first.
    """
    found, missing = [], []
    for name, kind in KINDS.items():
        column: Hashes = getattr(profiles.digests, name)
        if not column.any():
            missing.append(kind)
        elif column[rows].any():
            found.append(_from_log(profiles, rows, members, name=name, reference=reference))
    found += _from_facts(facts, members, missing=missing)
    return Traits(items=tuple(sorted(found, key=_order)), missing=tuple(missing))


def _from_log(
    profiles: Profiles, rows: Ints, members: Ints, *, name: str, reference: Profiles | None
) -> Trait:
    """Describe one trait by the commonest value that members have of it."""
    digests = profiles.digests
    column: Hashes = getattr(digests, name)
    inside = holders(column[rows], digests.account[rows])
    best = int(np.argmax(inside.accounts))
    value = int(inside.values[best])
    mine = np.zeros(profiles.n_accounts, dtype=bool)
    mine[members] = True
    others = _having(digests, name, np.flatnonzero(~mine[digests.account]), value=value)
    known = (0, 0)
    if reference is not None and reference.n_accounts:
        every = np.arange(len(reference.digests.account))
        known = _having(reference.digests, name, every, value=value)
    sample = rows[column[rows] == np.uint64(value)][0]
    return Trait(
        kind=KINDS[name],
        distinct=len(inside.values),
        top=int(inside.accounts[best]),
        members=inside.known,
        others=others[0],
        others_known=others[1],
        reference=known[0],
        reference_known=known[1],
        sample=key_text(digests, int(sample)),
    )


def is_shared(trait: Trait) -> bool:
    """Tell whether a trait binds a group: many have it, and few others.

    Args:
        trait: the trait.

    Returns:
        Whether at least a tenth of the members, three or more, have the value, five times as
        often as others do.
    """
    return trait.top >= max(3, 0.1 * trait.members) and trait.likelihood >= 5.0


def key_text(digests: Digests, row: int) -> str:
    """Write the key of an exchange so that it survives JSON.

    Args:
        digests: the log.
        row: the digest.

    Returns:
        Sixteen hexadecimal digits.
    """
    return f"{int(digests.key[row]):016x}"


def spread_rows(digests: Digests, rows: NDArray[np.int64], most: int) -> Ints:
    """Pick exchanges of different accounts, the smallest keys first: the same on every run.

    Args:
        digests: the log.
        rows: digests to pick from.
        most: how many.

    Returns:
        Digests, first one of each account, then seconds, and so on.
    """
    order = rows[np.lexsort((digests.key[rows], digests.account[rows]))]
    account = digests.account[order]
    turn = np.arange(len(order)) - np.searchsorted(account, account)
    return np.asarray(order[np.lexsort((digests.key[order], turn))][:most], dtype=np.int64)


def _from_facts(facts: Facts | None, members: Ints, *, missing: list[str]) -> list[Trait]:
    """Describe what the accounts table says of the members; kinds it lacks go to `missing`."""
    if facts is None or not facts.known.any():
        missing += FACTS.values()
        return []
    found = []
    outside = np.ones(facts.n_accounts, dtype=bool)
    outside[members] = False
    for name, kind in FACTS.items():
        column: Hashes = getattr(facts, name)
        inside = holders(column[members], members)
        if not len(inside.values):
            missing.append(kind)
            continue
        best = int(np.argmax(inside.accounts))
        found.append(
            Trait(
                kind=kind,
                distinct=len(inside.values),
                top=int(inside.accounts[best]),
                members=inside.known,
                others=int(np.sum(column[outside] == inside.values[best])),
                others_known=int(np.sum(column[outside] != 0)),
            )
        )
    return found


def _having(digests: Digests, name: str, rows: Ints, *, value: int) -> tuple[int, int]:
    column, account = getattr(digests, name)[rows], digests.account[rows]
    same, known = column == np.uint64(value), column != 0
    return len(np.unique(account[same])), len(np.unique(account[known]))


def _order(trait: Trait) -> tuple[bool, float]:
    return (not is_shared(trait), -trait.likelihood * trait.top / max(trait.members, 1))
