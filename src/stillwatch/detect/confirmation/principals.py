"""Principals: how many independent parties stand behind a group of accounts.

Two questions that are often taken for one. *Declared* common ownership (one organisation, one
reseller by name) explains a group away: it hides nothing, and the provider knows whom to ask.
*Hidden* common ownership (one payment mark, one sign-up address under parties that claim to be
strangers) explains it the other way. Accounts that share nothing are strangers, which proves
nothing either: whoever pays for separate cards has them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from stillwatch.detect.discovery.marks import Marks, marks_of
from stillwatch.detect.facts import Facts, no_facts
from stillwatch.detect.profiles.profile import Floats, Ints, Profiles
from stillwatch.text.ragged import Hashes

#: Marks that one holder alone has: shared by strangers, they say that these are none.
OWNED = ("payment", "signup address", "e-mail")
#: Marks that an institution gives to its people: shared openly, they are an innocent explanation.
_SHARED = ("e-mail domain", "signup network", "network")
#: A link is believed below this chance that so many parties of a random group share one value,
#: already multiplied by the values looked at.
_BELIEVED = 1e-3
#: A group is one party, one institution or one network when that covers so much of it.
_MOST = 0.9
#: Links shown of a group, the widest first.
_SHOWN = 12


class Parties(NamedTuple):
    """The declared party of every account of a log.

    Attributes:
        of_account: party number, shape (n_accounts,); accounts of one organisation or one reseller
            share it, every other account has its own.
        n_parties: how many (count).
        declared: whether the party is an organisation or a reseller, shape (n_accounts,).
    """

    of_account: Ints
    n_parties: int
    declared: NDArray[np.bool_]

    def count(self, accounts: NDArray[np.int64]) -> int:
        """Count the parties behind some accounts, if nobody hides.

        Args:
            accounts: account numbers.

        Returns:
            Declared parties, at least 1 for any account.
        """
        return len(np.unique(self.of_account[accounts]))


class Link(NamedTuple):
    """One value that several declared parties of a group share.

    Attributes:
        kind: payment, signup address, e-mail, e-mail domain, signup network or network.
        value: its hash.
        accounts: accounts of the group that have it (count).
        parties: declared parties of the group that have it (count), at least 2.
        elsewhere: parties outside the group that have it (count).
        p_value: chance that a random group of as many parties shares any value of the kind so
            surprisingly; at most 1.
    """

    kind: str
    value: int
    accounts: int
    parties: int
    elsewhere: int
    p_value: float

    @property
    def owned(self) -> bool:
        """Whether such a mark has one holder, so that strangers should not share it."""
        return self.kind in OWNED


class Principals(NamedTuple):
    """Who stands behind a group.

    Attributes:
        n_accounts: accounts of the group (count).
        n_declared: parties if nobody hides (count).
        n_linked: parties if those who share a mark beyond chance are one (count).
        links: marks shared beyond chance, the widest first.
        kind: `one party` (declared), `hidden ownership`, `one institution` (an e-mail domain or a
            network that covers the group) or `strangers`.
        text: the same in a sentence.
    """

    n_accounts: int
    n_declared: int
    n_linked: int
    links: tuple[Link, ...]
    kind: str
    text: str


def parties_of(profiles: Profiles, facts: Facts | None = None) -> Parties:
    """Say which accounts belong together openly.

    An account stands under its reseller, else under its organisation (the table's, else the one
    that most of its exchanges name), else for itself. Nothing is chained: an account of two
    organisations does not make them one.

    Args:
        profiles: the log.
        facts: of its accounts, or None.

    Returns:
        A party for every account.
    """
    facts = facts or no_facts(profiles.n_accounts)
    org = np.where(facts.org != 0, facts.org, _usual_org(profiles))
    n = profiles.n_accounts
    kind = np.where(facts.reseller != 0, 2, np.where(org != 0, 1, 0))
    value = np.where(facts.reseller != 0, facts.reseller, org)
    value = np.where(kind == 0, np.arange(n, dtype=np.uint64), value)
    order = np.lexsort((value, kind))
    fresh = np.ones(n, dtype=bool)
    fresh[1:] = (np.diff(kind[order]) != 0) | (value[order][1:] != value[order][:-1])
    party = np.empty(n, dtype=np.int64)
    party[order] = np.cumsum(fresh) - 1
    return Parties(party, int(fresh.sum()), kind > 0)


class Registry:
    """Declared parties and shared marks of a log, made once and asked about any group.

    Args:
        profiles: the log.
        facts: of its accounts, or None.
    """

    def __init__(self, profiles: Profiles, facts: Facts | None = None) -> None:
        self.parties = parties_of(profiles, facts)
        self.marks = marks_of(profiles, facts)
        kinds = [kind for kind in (*OWNED, *_SHARED) if kind in self.marks]
        self._marks = {kind: self.marks[kind] for kind in kinds}
        self._spread = {kind: self._parties_by_value(each) for kind, each in self._marks.items()}
        self._sizes = {
            kind: np.unique(parties, return_counts=True)
            for kind, (parties, _) in self._spread.items()
        }

    def describe(self, accounts: Ints) -> Principals:
        """Say how many independent parties stand behind a group, and what gives them away.

        Args:
            accounts: account numbers.

        Returns:
            The parties, the links between them, and a sentence.
        """
        group = np.unique(accounts)
        links: list[Link] = []
        joins: list[tuple[Ints, Ints]] = []
        cover = 0.0, ""
        for kind, marks in self._marks.items():
            mine = marks.of(group)
            for number, link in self._links(kind, mine):
                links.append(link)
                users = mine.account[mine.number == number]
                joins.append((users, np.full(len(users), len(joins), dtype=np.int64)))
                if not link.owned:
                    cover = max(cover, (len(users) / len(group), kind))
        links.sort(
            key=lambda link: (not link.owned, -link.parties, link.p_value, link.kind, link.value)
        )
        party = self.parties.of_account[group]
        n_declared = len(np.unique(party))
        n_linked = _components(party, group, joins=joins)
        kind = _kind(party, links, cover=cover[0])
        text = _sentence(kind, (len(group), n_declared, n_linked), links=links, cover=cover)
        return Principals(len(group), n_declared, n_linked, tuple(links[:_SHOWN]), kind, text)

    def _parties_by_value(self, marks: Marks) -> tuple[Ints, int]:
        """Count the parties that have each value, and those of which any value is known."""
        party = self.parties.of_account[marks.account]
        return _count_parties(marks.number, party, n_values=len(marks.values)), len(
            np.unique(party)
        )

    def _links(self, kind: str, mine: Marks) -> list[tuple[int, Link]]:
        """Find the values of one kind that parties of a group share beyond chance."""
        everywhere, n_all = self._spread[kind]
        sizes = self._sizes[kind]
        values, number = np.unique(mine.number, return_inverse=True)
        party = self.parties.of_account[mine.account]
        within = _count_parties(number, party, n_values=len(values))
        shared = np.flatnonzero(within >= 2)
        if not len(shared):
            return []
        outside = everywhere[values[shared]]
        n_group = len(np.unique(party))
        raw = np.asarray(stats.hypergeom.sf(within[shared] - 1, n_all, outside, n_group))
        chance = raw * _looked_at(raw, sizes, n_all=n_all, n_group=n_group)
        users = np.bincount(number, minlength=len(values))
        return [
            (
                int(values[i]),
                Link(
                    kind=kind,
                    value=int(mine.values[values[i]]),
                    accounts=int(users[i]),
                    parties=int(within[i]),
                    elsewhere=int(everywhere[values[i]] - within[i]),
                    p_value=float(p),
                ),
            )
            for i, p in zip(shared, np.minimum(chance, 1.0), strict=True)
            if p <= _BELIEVED
        ]


def _usual_org(profiles: Profiles) -> Hashes:
    """Give the organisation that most of an account's kept exchanges name; 0 for none."""
    usual = np.zeros(profiles.n_accounts, dtype=np.uint64)
    digests = profiles.digests
    named = np.flatnonzero(digests.org != 0)
    if not len(named):
        return usual
    values, number = np.unique(digests.org[named], return_inverse=True)
    code, count = np.unique(digests.account[named] * len(values) + number, return_counts=True)
    # The last to write stands: the most frequent, of equals the smallest.
    order = np.lexsort((-(code % len(values)), count))
    usual[code[order] // len(values)] = values[code[order] % len(values)]
    return usual


def _count_parties(number: Ints, party: Ints, *, n_values: int) -> Ints:
    """Count the distinct parties of each value."""
    width = int(party.max(initial=0)) + 1
    pair = np.unique(number * np.int64(width) + party)
    return np.bincount(pair // width, minlength=n_values)


def _looked_at(chance: Floats, spread: tuple[Ints, Ints], *, n_all: int, n_group: int) -> Ints:
    """Count the values of the log that could have been as surprising as each p-value.

    A value of two holders never is: only those that can reach the p-value count (Tarone 1990).
    """
    sizes, how_many = spread
    least = np.asarray(stats.hypergeom.sf(np.minimum(sizes, n_group) - 1, n_all, sizes, n_group))
    order = np.argsort(least)
    counted = np.concatenate(([0], np.cumsum(how_many[order])))
    # A p-value at its own least must count itself, whatever the last digit.
    return counted[np.searchsorted(least[order], chance * (1.0 + 1e-9), side="right")]


def _components(party: Ints, group: Ints, *, joins: list[tuple[Ints, Ints]]) -> int:
    """Count the parties of a group that are left when those who share a mark are one."""
    parties, number = np.unique(party, return_inverse=True)
    if not joins:
        return len(parties)
    account = np.concatenate([mine for mine, _ in joins])
    mark = np.concatenate([which for _, which in joins])
    row = number[np.searchsorted(group, account)]
    n = len(parties) + len(joins)
    graph = sparse.coo_matrix((np.ones(len(row)), (row, len(parties) + mark)), shape=(n, n))
    # Every mark hangs on a party, so marks make no component of their own.
    return int(sparse.csgraph.connected_components(graph, directed=False)[0])


def _kind(party: Ints, links: list[Link], *, cover: float) -> str:
    if not len(party) or np.unique(party, return_counts=True)[1].max() >= _MOST * len(party) > 1:
        return "one party" if len(party) else "strangers"
    owned = sum(link.parties for link in links if link.owned)
    if owned >= 0.5 * len(np.unique(party)) or any(x.owned and x.parties >= 5 for x in links):
        return "hidden ownership"
    return "one institution" if cover >= _MOST else "strangers"


def _sentence(
    kind: str,
    counts: tuple[int, int, int],
    *,
    links: list[Link],
    cover: tuple[float, str],
) -> str:
    n_accounts, n_declared, n_linked = counts
    if kind == "one party":
        return (
            f"{n_accounts} accounts, nearly all of one declared organisation or reseller: nothing "
            "is hidden, and there is somebody to ask."
        )
    if kind == "hidden ownership":
        widest = next(link for link in links if link.owned)
        return (
            f"{n_accounts} accounts under {n_declared} names share what only one holder has: one "
            f"{widest.kind} mark stands behind {widest.parties} of them and {widest.elsewhere} "
            f"others in the log (chance {widest.p_value:.2g}); at most {n_linked} parties are left."
        )
    if kind == "one institution":
        return (
            f"{n_accounts} accounts under {n_declared} names, {cover[0]:.0%} of them with one "
            f"{cover[1]}: members of one school or company look like this."
        )
    if links:
        return (
            f"{n_accounts} accounts under {n_declared} names; those who share a rare mark taken "
            f"together, {n_linked}."
        )
    return f"{n_accounts} accounts under {n_declared} names that share no mark beyond chance."
