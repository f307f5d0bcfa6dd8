"""Co-traits: groups of accounts that share rare things other than wording.

A graph of accounts and the values they carry (payment mark, sign-up network, network, user agent,
system prompt, tools, parameters ...), an edge weighing what the value is worth: the log of how rare
it is. Values of nearly everybody are left out, so no popular network or client program joins
strangers. The graph is divided into communities at several resolutions, those that hold together
better than any of the same graph with its values dealt out anew are kept, and hangers-on are peeled
off. A group is a candidate and nothing more: honest companies, classes and users of one agent hold
together too.

Works on logs without bodies, where there is no wording to share.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stillwatch.detect.discovery.communities import Surprise, communities, surprise
from stillwatch.detect.discovery.marks import Marks, marks_of
from stillwatch.detect.discovery.peel import Graph, densest, graph_of
from stillwatch.detect.facts import Facts
from stillwatch.detect.profiles.profile import Floats, Ints, Profiles
from stillwatch.errors import reject

#: Nats in a unit of weight: whole numbers add up alike in any order.
_UNIT = 1e-3
#: What each kind counts for: client software and parameters are a matter of fashion, and on ten
#: made-up towns webs came out whole with a quarter for them and in pieces with a half. Devices (a
#: network and a client in one) would split those who share networks.
_WORTH = {
    "payment": 1.0,
    "signup address": 1.0,
    "e-mail": 1.0,
    "e-mail domain": 1.0,
    "signup network": 0.5,
    "network": 1.0,
    "user agent": 0.25,
    "system prompt": 1.0,
    "tools": 1.0,
    "parameters": 0.25,
}
#: Kinds of which one value alone makes a candidate: strangers have no reason to share it.
_ALONE = ("payment", "signup address", "e-mail", "tools")
#: Prices of a pair of account and value (nats), from tight groups that share everything to pools of
#: thousands of accounts and hundreds of networks.
_PRICES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
#: Graphs of dealt-out values that a group must hold together better than; one is enough for a graph
#: of so many edges, whose extremes vary little.
_SHUFFLES, _MANY = 4, 500_000
#: And by how much better: a new shuffle goes that far beyond four others now and then.
_MARGIN = 1.15
#: Peeling takes hangers-on away; if it took more than this share, the group was something else.
_PEELED = 0.7
#: Who stands outside a core joins with this share of the weight that its members have in it.
_TIED = 0.5
#: A value is named as shared by a group when this share of the members carries it.
_NAMED = 0.1


class CotraitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How groups are found by what they share.

    Attributes:
        min_accounts: members of a group at least.
        least_users: values carried by fewer accounts join nobody.
        widest_share: values carried by more than this share of the accounts that have any value of
            the kind are everybody's.
        most_values: values of one kind that one account may carry; who has more (a gateway, an
            office of many networks) has that kind left out.
        most_groups: groups returned at most.
        without: kinds of value that are left out, to be held back as evidence.
        seed: of the shuffle that says what density chance gives.
    """

    min_accounts: int = 12
    least_users: int = 3
    widest_share: float = 0.2
    most_values: int = 64
    most_groups: int = 64
    without: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in (("min_accounts", 2), ("least_users", 2), ("most_groups", 1)):
            if getattr(self, name) < lowest:
                reject("CotraitConfig", name, f"at least {lowest}", got=getattr(self, name))
        if not 0.0 < self.widest_share <= 1.0:
            reject("CotraitConfig", "widest_share", "above 0 and at most 1", got=self.widest_share)


class SharedTrait(NamedTuple):
    """One value that members of a group share.

    Attributes:
        kind: payment, network, tools ...
        value: its hash.
        accounts: members that carry it (count).
        elsewhere: accounts outside the group that do (count).
    """

    kind: str
    value: int
    accounts: int
    elsewhere: int


class CoGroup(NamedTuple):
    """Accounts that share rare values: a candidate.

    Attributes:
        accounts: account numbers, sorted.
        score: how far the group holds together beyond chance, nats an account; see
            `communities.surprise`.
        chance: what it had to exceed: the best score, and a margin, of communities as large in the
            same graph with the values of each kind dealt out at random; NaN for a group found by
            one value alone.
        shared: the values that members share, most members first.
    """

    accounts: Ints
    score: float
    chance: float
    shared: tuple[SharedTrait, ...]

    @property
    def text(self) -> str:
        """What the group shares, in a sentence."""
        parts = [
            f"one {trait.kind} with {trait.accounts} members and {trait.elsewhere} others"
            for trait in self.shared[:4]
        ]
        return f"{len(self.accounts)} accounts share " + ("; ".join(parts) or "nothing much") + "."


def find_cogroups(
    profiles: Profiles,
    facts: Facts | None = None,
    *,
    config: CotraitConfig | None = None,
    marks: dict[str, Marks] | None = None,
) -> list[CoGroup]:
    """Find groups that share rare values of several kinds, or one that strangers never share.

    Args:
        profiles: the log.
        facts: of its accounts, or None.
        config: bounds.
        marks: of the log and facts, where they are made already.

    Returns:
        Groups, those that hold together most (score times accounts) first. No two have more than
        half of the smaller one's accounts in common.
    """
    config = config or CotraitConfig()
    marks = marks_of(profiles, facts) if marks is None else marks
    edges = _edges(marks, config)
    if not len(edges.account):
        return []
    found = _stars(edges, config)
    graph = edges.graph(profiles.n_accounts)
    rng = np.random.default_rng([config.seed, 4])
    n_shuffles = _SHUFFLES if len(edges.account) < _MANY else 1
    shuffled = [edges.shuffled(rng).graph(profiles.n_accounts) for _ in range(n_shuffles)]
    for price in _PRICES:
        found += _communities(
            graph, shuffled, price=price / _UNIT, total=edges.total, config=config
        )
    found.sort(key=lambda one: (-one.score * len(one.accounts), int(one.accounts[0])))
    groups: list[CoGroup] = []
    taken = np.zeros(profiles.n_accounts, dtype=bool)
    for one in found:
        if taken[one.accounts].mean() <= 0.5 and len(groups) < config.most_groups:
            taken[one.accounts] = True
            groups.append(one._replace(shared=_shared(one.accounts, marks, edges)))
    return groups


class _Edges(NamedTuple):
    """Accounts and the values worth sharing, all kinds together."""

    account: Ints
    value: Ints
    weight: Ints
    kind: Ints
    kinds: tuple[str, ...]
    hashes: NDArray[np.uint64]
    kind_of_value: Ints
    price: int
    holders: tuple[Ints, ...]
    total: int

    def graph(self, n_accounts: int) -> Graph:
        """Build the graph, accounts on the left."""
        sizes = (n_accounts, len(self.hashes))
        return graph_of(self.account, self.value, self.weight, sizes=sizes, price=self.price)

    def shuffled(self, rng: np.random.Generator) -> _Edges:
        """Deal the values of each kind out again, among all who have any value of the kind."""
        account = self.account.copy()
        for kind, holders in enumerate(self.holders):
            mine = np.flatnonzero(self.kind == kind)
            account[mine] = rng.permutation(holders)[: len(mine)]
        _, first = np.unique(account * np.int64(len(self.hashes)) + self.value, return_index=True)
        return self._replace(
            account=account[first],
            value=self.value[first],
            weight=self.weight[first],
            kind=self.kind[first],
        )


def _edges(marks: dict[str, Marks], config: CotraitConfig) -> _Edges:
    kinds = tuple(kind for kind in marks if kind in _WORTH and kind not in config.without)
    parts, hashes, of_value, n_values, total = [], [], [], 0, 0
    holders: list[Ints] = []
    for number, kind in enumerate(kinds):
        mine = marks[kind]
        n_known = mine.n_known
        rare = (mine.users >= config.least_users) & (mine.users <= config.widest_share * n_known)
        carried = np.bincount(mine.account)
        few = carried[mine.account] <= config.most_values
        known = few & (mine.users <= config.widest_share * n_known)[mine.number]
        holders.append(mine.account[known])
        kept = known & rare[mine.number]
        account, value = mine.account[kept], mine.number[kept]
        place = np.cumsum(rare) - 1 + n_values
        # Who carries many values of a kind is tied less by each.
        nats = _WORTH[kind] * np.log(n_known / mine.users[mine.number])
        worth = np.rint(nats / np.sqrt(carried[mine.account]) / _UNIT).astype(np.int64)
        total += int(worth[known].sum())
        weight = worth[kept]
        parts.append((account, place[value], weight, np.full(len(account), number)))
        hashes.append(mine.values[rare])
        of_value.append(np.full(int(rare.sum()), number))
        n_values += int(rare.sum())
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return _Edges(none, none, none, none, (), none.astype(np.uint64), none, 1, (), 0)
    account, value, weight, kind_of_edge = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return _Edges(
        account,
        value,
        weight,
        kind_of_edge,
        kinds,
        np.concatenate(hashes),
        np.concatenate(of_value),
        max(1, config.min_accounts // 3),
        tuple(holders),
        total,
    )


def _communities(
    graph: Graph, shuffled: list[Graph], *, price: float, total: int, config: CotraitConfig
) -> list[CoGroup]:
    """Find the communities at one price that hold together better than chance, peeled."""
    everyone = np.ones(graph.n_nodes, dtype=bool)
    label = communities(graph, everyone, price=price)
    found = surprise(graph, label, total=total)
    dealt = [
        surprise(one, communities(one, everyone, price=price), total=total) for one in shuffled
    ]
    floor = _MARGIN * np.max([_floors(found.n_left, one, config) for one in dealt], axis=0)
    fits = (found.n_left >= config.min_accounts) & (found.n_left <= 0.5 * graph.n_left)
    better = np.flatnonzero(fits & (found.score > floor))
    better = better[np.argsort(-(found.score * found.n_left)[better], kind="stable")]
    order = np.argsort(label, kind="stable")
    bounds = np.searchsorted(label[order], np.arange(len(found.n_left) + 1))
    groups = []
    for c in better[: config.most_groups].tolist():
        accounts = _peeled(graph, np.sort(order[bounds[c] : bounds[c + 1]]), config)
        if len(accounts) <= config.widest_share * graph.n_left:
            score, limit = float(found.score[c]) * _UNIT, float(floor[c]) * _UNIT
            groups.append(CoGroup(accounts, score, limit, ()))
    return groups


def _floors(sizes: Ints, chance: Surprise, config: CotraitConfig) -> Floats:
    """Give, for each size, the best score that chance gave a community half as large or larger."""
    usable = np.flatnonzero(chance.n_left >= config.min_accounts)
    if not len(usable):
        return np.zeros(len(sizes))
    usable = usable[np.argsort(-chance.n_left[usable], kind="stable")]
    best = np.maximum.accumulate(chance.score[usable])
    # Where chance made none so large, its three largest stand in.
    n_as_large = np.searchsorted(-chance.n_left[usable], -sizes / 2.0, side="right")
    return best[np.clip(n_as_large - 1, min(2, len(best) - 1), None)]


def _peeled(graph: Graph, nodes: Ints, config: CotraitConfig) -> Ints:
    """Take the hangers-on off a community, and call in those of its kind who stand outside."""
    inside = csr_matrix(
        (graph.weights, graph.neighbours, graph.starts), shape=(graph.n_nodes, graph.n_nodes)
    )[nodes][:, nodes].tocsr()
    n_left = int((nodes < graph.n_left).sum())
    part = Graph(
        inside.indptr.astype(np.int64),
        inside.indices.astype(np.int64),
        inside.data,
        graph.prices[nodes],
        n_left,
    )
    kept = densest(part, np.ones(len(nodes), dtype=bool), least=config.min_accounts).nodes
    accounts = nodes[kept[kept < n_left]]
    if len(accounts) < (1.0 - _PEELED) * n_left:
        return nodes[:n_left]
    return _grown(graph, accounts, nodes[kept[kept >= n_left]])


def _grown(graph: Graph, accounts: Ints, values: Ints) -> Ints:
    """Add the accounts that carry the values of a core, each counted by how much it is the core's.

    A value that the rest of the log carries too brings nobody in.
    """
    starts, ends = graph.starts[values], graph.starts[values + 1]
    edges = np.concatenate([np.arange(*ends_of) for ends_of in zip(starts, ends, strict=True)])
    users, value = graph.neighbours[edges], np.repeat(np.arange(len(values)), ends - starts)
    is_core = np.isin(users, accounts)
    own = np.bincount(value[is_core], minlength=len(values)) / np.maximum(ends - starts, 1)
    tied, number = np.unique(users, return_inverse=True)
    tie = np.bincount(number, graph.weights[edges] * own[value])
    limit = _TIED * float(np.median(tie[np.isin(tied, accounts)]))
    return np.union1d(accounts, tied[tie >= max(limit, 1.0)])


def _stars(edges: _Edges, config: CotraitConfig) -> list[CoGroup]:
    """Find values that make a group on their own."""
    alone = np.isin(edges.kind_of_value, [edges.kinds.index(k) for k in _ALONE if k in edges.kinds])
    users = np.bincount(edges.value, minlength=len(edges.hashes))
    wanted = np.flatnonzero(alone & (users >= config.min_accounts))
    wanted = wanted[np.argsort(-users[wanted], kind="stable")][: config.most_groups]
    order = np.argsort(edges.value, kind="stable")
    bounds = np.searchsorted(edges.value[order], np.arange(len(edges.hashes) + 1))
    stars = []
    for value in wanted.tolist():
        mine = order[bounds[value] : bounds[value + 1]]
        worth = float(edges.weight[mine].sum()) / len(mine) * _UNIT
        stars.append(CoGroup(np.sort(edges.account[mine]), worth, np.nan, ()))
    return stars


def _shared(accounts: Ints, marks: dict[str, Marks], edges: _Edges) -> tuple[SharedTrait, ...]:
    inside = np.isin(edges.account, accounts)
    users = np.bincount(edges.value[inside], minlength=len(edges.hashes))
    found = []
    for i in np.flatnonzero(users >= max(2.0, _NAMED * len(accounts))).tolist():
        kind = edges.kinds[edges.kind_of_value[i]]
        mine = marks[kind]
        everywhere = int(mine.users[np.searchsorted(mine.values, edges.hashes[i])])
        elsewhere = everywhere - int(users[i])
        found.append(SharedTrait(kind, int(edges.hashes[i]), int(users[i]), elsewhere))
    return tuple(sorted(found, key=lambda trait: (-trait.accounts, trait.elsewhere, trait.kind)))
