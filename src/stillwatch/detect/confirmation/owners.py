"""Hidden owners: accounts under many names that one party pays for or opened.

Found by what accounts share in the log (networks, client, system prompt, mail domain), confirmed
by what only one holder has (payment, sign-up address, e-mail address), which did not find them.
This is no finding of harvesting, and is not called a campaign; on logs without bodies it is all
that can be said with a p-value.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import xxhash
from scipy import sparse, stats

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.principals import OWNED, Parties, Registry
from stillwatch.detect.discovery.cotraits import CoGroup, CotraitConfig, find_cogroups
from stillwatch.detect.discovery.marks import Marks, marks_of
from stillwatch.detect.facts import Facts
from stillwatch.detect.findings import Findings, Owner, OwnerMark
from stillwatch.detect.profiles.profile import Ints, Profiles
from stillwatch.stats.multiple import benjamini_hochberg

#: Marks that many share openly: they hold a group together and confirm nobody.
_HELD = ("e-mail domain", "signup network", "network")
#: A tie is believed below this chance, already multiplied by the values looked at.
_BELIEVED = 1e-3
#: So much of a group must have a mark of one holder, or those who have none are left out.
_BACKED = 0.5
#: Ties listed of an owner, those of one holder first.
_SHOWN = 12
_WORDS = {
    "payment": "payment mark",
    "signup address": "sign-up address",
    "e-mail": "e-mail address",
    "signup network": "sign-up network",
}


class Tie(NamedTuple):
    """One value that several declared parties of a group have.

    Attributes:
        kind: as `marks_of` calls it.
        value: its hash.
        accounts: account numbers of the group that have it.
        parties: declared parties of the group that have it (count), at least 2.
        elsewhere: parties outside the group that have it (count).
        p_value: chance that so many parties of a random group have it, times the values of the
            kind that any two parties of the log share.
    """

    kind: str
    value: int
    accounts: Ints
    parties: int
    elsewhere: int
    p_value: float


class HiddenOwner(NamedTuple):
    """Accounts that declare different parties and share what one holder has.

    Attributes:
        accounts: account numbers, sorted.
        p_value: chance that so many parties of a random group share one payment, address or
            e-mail, times the values and kinds looked at.
        group: what found them; it may hold accounts that nothing ties to the others.
        ties: what holds them together, marks of one holder first, widest first.
        backed: those who have a shared mark of one holder, sorted.
        n_names: declared parties (count).
        n_holders: parties that are left when those who share a tie are one (count).
    """

    accounts: Ints
    p_value: float
    group: CoGroup
    ties: tuple[Tie, ...]
    backed: Ints
    n_names: int
    n_holders: int


def list_owners(
    profiles: Profiles, facts: Facts, findings: Findings, *, config: DetectConfig
) -> tuple[Owner, ...] | None:
    """Write down the hidden owners of a log.

    Args:
        profiles: the log.
        facts: of its accounts.
        findings: of the same log, for the campaigns that name some of the accounts.
        config: the false discovery rate, the least number of parties, the seed.

    Returns:
        Owners, most accounts first; None when a payment, sign-up address or e-mail address is
        known of fewer accounts than an owner has names at least, so that none could be confirmed.
    """
    known = (facts.payment != 0) | (facts.signup_ip != 0) | (facts.email != 0)
    if int(known.sum()) < config.min_accounts:
        return None
    found = find_hidden_owners(
        profiles,
        facts,
        Registry(profiles, facts),
        fdr=config.fdr,
        config=CotraitConfig(min_accounts=config.min_accounts, seed=config.seed),
    )
    named = {name: c.campaign_id for c in findings.campaigns for name in c.accounts}
    owners: list[Owner] = []
    for one in found:
        # Marks are hashed under a key that may be new each run; account names stay.
        others = {name for owner in owners for name in owner.accounts}
        owner = _owner(profiles, one, named)
        first = next(name for name in owner.accounts if name not in others)
        owner_id = f"owner-{xxhash.xxh3_64_intdigest(first.encode()) & 0xFFFFFFFF:08x}"
        owners.append(msgspec.structs.replace(owner, owner_id=owner_id))
    return tuple(owners)


def find_hidden_owners(
    profiles: Profiles,
    facts: Facts,
    registry: Registry,
    *,
    fdr: float = 0.01,
    config: CotraitConfig | None = None,
) -> list[HiddenOwner]:
    """Find groups of accounts whose separate names hide one owner.

    Discovery may lump a company or a school with them: who is tied to nobody that has a shared
    mark of one holder is left out.

    Args:
        profiles: the log.
        facts: of its accounts; without payments and sign-ups nothing can be confirmed.
        registry: of the same log and facts.
        fdr: share of the groups that may have no common owner, by Benjamini-Hochberg.
        config: bounds of discovery.

    Returns:
        Groups of at least the least number of declared parties, most accounts first. No two have
        more than half of the smaller one's accounts in common.
    """
    config = config or CotraitConfig()
    config = msgspec.structs.replace(config, without=(*config.without, *OWNED))
    parties = registry.parties
    knots = _Knots(marks_of(profiles, facts), parties)
    candidates = [
        (group, knots.ties(group.accounts))
        for group in find_cogroups(profiles, facts, config=config)
        if parties.count(group.accounts) >= config.min_accounts
    ]
    p_values = [_p_value(ties) for _, ties in candidates]
    falls = benjamini_hochberg(p_values, fdr).rejected
    found = [
        _trimmed(group, ties, parties)._replace(p_value=p_values[i])
        for i, (group, ties) in enumerate(candidates)
        if falls[i]
    ]
    found = [one for one in found if one.n_names >= config.min_accounts]
    found.sort(key=lambda one: (-len(one.accounts), int(one.accounts[0])))
    taken = np.zeros(profiles.n_accounts, dtype=bool)
    apart = []
    for one in found:
        if taken[one.accounts].mean() <= 0.5:
            taken[one.accounts] = True
            apart.append(one)
    return apart


def _p_value(ties: list[Tie]) -> float:
    owned = [tie.p_value for tie in ties if tie.kind in OWNED]
    return min(1.0, len(OWNED) * min(owned)) if owned else 1.0


class _Knots:
    """Who shares which value, made once and asked about any group."""

    def __init__(self, marks: dict[str, Marks], parties: Parties) -> None:
        self._parties = parties.of_account
        self._kinds = {}
        for kind in (*OWNED, *_HELD):
            if kind in marks:
                party = self._parties[marks[kind].account]
                everywhere = _count_pairs(marks[kind].number, party)
                n_all = len(np.unique(party))
                self._kinds[kind] = marks[kind], everywhere, n_all

    def ties(self, accounts: Ints) -> list[Tie]:
        """List the values that parties of a group share beyond chance."""
        found = []
        for kind, (marks, everywhere, n_all) in self._kinds.items():
            mine = marks.of(accounts)
            party = self._parties[mine.account]
            within = np.zeros(len(everywhere), dtype=np.int64)
            here = _count_pairs(mine.number, party)
            within[: len(here)] = here
            shared = np.flatnonzero(within >= 2)
            tail = stats.hypergeom.sf(
                within[shared] - 1, n_all, everywhere[shared], len(np.unique(party))
            )
            chance = np.minimum(1.0, tail * int(np.sum(everywhere >= 2)))
            for value, p_value in zip(shared.tolist(), chance.tolist(), strict=True):
                if p_value <= _BELIEVED:
                    users = mine.account[mine.number == value]
                    n, others = int(within[value]), int(everywhere[value] - within[value])
                    found.append(Tie(kind, int(marks.values[value]), users, n, others, p_value))
        return sorted(found, key=lambda tie: (tie.kind not in OWNED, -tie.parties, tie.value))


def _count_pairs(number: Ints, party: Ints) -> Ints:
    """Count the distinct parties of each value."""
    width = int(party.max(initial=0)) + 1
    return np.bincount(np.unique(number * np.int64(width) + party) // width)


def _trimmed(group: CoGroup, ties: list[Tie], parties: Parties) -> HiddenOwner:
    """Keep who is tied, by whatever is shared beyond chance, to a shared mark of one holder."""
    owned = [tie for tie in ties if tie.kind in OWNED]
    backed = np.unique(np.concatenate([tie.accounts for tie in owned]))
    accounts, n_holders = _tied(group.accounts, ties, backed=backed, parties=parties)
    if parties.count(backed) < _BACKED * parties.count(accounts):
        ties = owned
        accounts, n_holders = _tied(backed, ties, backed=backed, parties=parties)
    kept = tuple(tie for tie in ties if np.isin(tie.accounts, accounts).all())
    n_names = parties.count(accounts)
    return HiddenOwner(accounts, 1.0, group, kept, backed, n_names, n_holders)


def _tied(accounts: Ints, ties: list[Tie], *, backed: Ints, parties: Parties) -> tuple[Ints, int]:
    """Keep the accounts whose party hangs together with one of `backed`; count the bunches."""
    party, number = np.unique(parties.of_account[accounts], return_inverse=True)
    place = [np.searchsorted(party, parties.of_account[tie.accounts]) for tie in ties]
    mark = np.repeat(np.arange(len(ties)), [len(rows) for rows in place]) + len(party)
    row = np.concatenate(place)
    n = len(party) + len(ties)
    graph = sparse.coo_matrix((np.ones(len(row)), (row, mark)), shape=(n, n))
    _, label = sparse.csgraph.connected_components(graph, directed=False)
    bunch = label[: len(party)][number]
    good = np.unique(bunch[np.isin(accounts, backed)])
    return accounts[np.isin(bunch, good)], len(good)


def _owner(profiles: Profiles, one: HiddenOwner, named: dict[str, str]) -> Owner:
    names = profiles.accounts.take(pa.array(one.accounts)).to_pylist()
    totals = profiles.totals
    found_by = dict.fromkeys(_WORDS.get(t.kind, t.kind) for t in one.group.shared)
    return Owner(
        owner_id="",
        accounts=tuple(names),
        p_value=one.p_value,
        names=one.n_names,
        holders=one.n_holders,
        backed=len(one.backed),
        exchanges=int(totals.exchanges[one.accounts].sum()),
        output_tokens=int(totals.output_tokens[one.accounts].sum()),
        marks=tuple(
            OwnerMark(
                kind=_WORDS.get(tie.kind, tie.kind),
                has_one_holder=tie.kind in OWNED,
                accounts=len(tie.accounts),
                names=tie.parties,
                elsewhere=tie.elsewhere,
            )
            for tie in one.ties[:_SHOWN]
        ),
        found_by=tuple(found_by),
        campaigns=dict(Counter(named[name] for name in names if name in named)),
        text=_sentence(one),
    )


def _sentence(one: HiddenOwner) -> str:
    owned = [tie for tie in one.ties if tie.kind in OWNED]
    counts = Counter(_WORDS[tie.kind] for tie in owned)
    what = ", ".join(f"{n} {kind}{_plural(kind, n)}" for kind, n in counts.items())
    widest = owned[0]
    left = "one holder is" if one.n_holders == 1 else f"{one.n_holders} holders are"
    return (
        f"{len(one.accounts)} accounts under {one.n_names} names; {len(one.backed)} of them share "
        f"with other names what only one holder has ({what}; the widest stands behind "
        f"{widest.parties} names, and {widest.elsewhere} outside). When names that share something "
        f"beyond chance are taken together, at most {left} left."
    )


def _plural(kind: str, n: int) -> str:
    return "" if n == 1 else "es" if kind.endswith("address") else "s"
