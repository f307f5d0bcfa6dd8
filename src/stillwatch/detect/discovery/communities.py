"""Communities of a two-sided graph: local moving and aggregation under a constant Potts model.

A community is worth its weight inside less `price` for every pair of a left and a right node in it.
Unlike modularity this has no resolution limit: a web of a hundred accounts is as visible among a
million as among a thousand. What it finds depends on the price, so callers try several.

Source: Blondel et al. 2008 for the moves; Traag et al. 2011 for the objective, here with two kinds
of nodes as in Barber 2007.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stillwatch.detect.discovery.peel import Graph
from stillwatch.detect.profiles.profile import Floats, Ints
from stillwatch.text.runs import compiled

#: Sweeps over all nodes and levels of aggregation at most; both stop by themselves much earlier.
_SWEEPS, _LEVELS = 20, 12


class _Level(NamedTuple):
    """A graph whose nodes stand for some left and some right nodes each."""

    starts: Ints
    neighbours: Ints
    weights: Ints
    left: Ints
    right: Ints


def communities(graph: Graph, alive: NDArray[np.bool_], *, price: float) -> Ints:
    """Divide a graph into communities.

    Args:
        graph: the graph.
        alive: nodes that take part, shape (n_nodes,).
        price: of a pair of a left and a right node, in the unit of the weights; low = large
            communities.

    Returns:
        Community of each node, from 0; -1 for those that take no part; shape (n_nodes,).
    """
    nodes = np.flatnonzero(alive)
    whole = sparse.csr_matrix(
        (graph.weights, graph.neighbours, graph.starts), shape=(graph.n_nodes, graph.n_nodes)
    )[nodes][:, nodes]
    is_left = (nodes < graph.n_left).astype(np.int64)
    label = np.arange(len(nodes), dtype=np.int64)
    level = _level(whole, is_left, 1 - is_left)
    for _ in range(_LEVELS):
        moved = _move(*level, price, _SWEEPS)
        _, moved = np.unique(moved, return_inverse=True)
        label = moved[label]
        n = int(moved.max(initial=-1)) + 1
        if n == len(moved):
            break
        gather = sparse.csr_matrix(
            (np.ones(len(moved), dtype=np.int64), (moved, np.arange(len(moved)))),
            shape=(n, len(moved)),
        )
        whole = sparse.csr_matrix(gather @ whole @ gather.T)
        left, right = (np.asarray(gather @ side) for side in (level.left, level.right))
        level = _level(whole, left, right)
    found = np.full(graph.n_nodes, -1, dtype=np.int64)
    found[nodes] = label
    return found


class Surprise(NamedTuple):
    """How far communities hold together beyond what their nodes' weights give by chance.

    Attributes:
        n_left: left nodes of each (count), shape (n_communities,).
        score: inside * ln(inside / expected) - inside + expected, per left node, in the unit of
            the weights; 0 where the weight inside is no more than expected.
        share: weight of the edges inside over that of all edges that touch the community, 0..1.
    """

    n_left: Ints
    score: Floats
    share: Floats


def surprise(graph: Graph, label: Ints, *, total: int | None = None) -> Surprise:
    """Measure how far communities hold together.

    Args:
        graph: the graph.
        label: community of each node, -1 for none, shape (n_nodes,).
        total: weight of all edges, those among it that the graph leaves out; None takes the
            graph's own.

    Returns:
        Scores in the order of the communities.
    """
    n = int(label.max(initial=-1)) + 1
    owner = np.repeat(np.arange(graph.n_nodes), np.diff(graph.starts))
    one = label[owner]
    from_left = (one >= 0) & (owner < graph.n_left)
    from_right = (one >= 0) & (owner >= graph.n_left)
    same = from_left & (one == label[graph.neighbours])
    inside, left_sum, right_sum = (
        np.bincount(one[mask], graph.weights[mask], minlength=n)
        for mask in (same, from_left, from_right)
    )
    whole = float(graph.weights.sum()) / 2.0 if total is None else float(total)
    expected = left_sum * right_sum / max(whole, 1.0)
    beyond = inside > expected
    ratio = np.where(beyond, inside / np.maximum(expected, 1e-9), 1.0)
    score = np.where(beyond, inside * np.log(ratio) - inside + expected, 0.0)
    left = label[: graph.n_left]
    n_left = np.bincount(left[left >= 0], minlength=n)
    share = inside / np.maximum(left_sum + right_sum - inside, 1.0)
    return Surprise(n_left, score / np.maximum(n_left, 1), share)


def _level(matrix: sparse.csr_matrix, left: Ints, right: Ints) -> _Level:
    return _Level(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int64),
        matrix.data.astype(np.int64),
        left.astype(np.int64),
        right.astype(np.int64),
    )


@compiled
def _move(  # noqa: PLR0913, PLR0917 - compiled
    starts: Ints,
    neighbours: Ints,
    weights: Ints,
    left: Ints,
    right: Ints,
    price: float,
    sweeps: int,
) -> Ints:
    """Move nodes to the community that gains most, until none moves; ties fall to the lower."""
    n = len(left)
    label = np.arange(n)
    in_left, in_right = left.copy(), right.copy()
    weight_to, touched = np.zeros(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for _ in range(sweeps):
        n_moved = 0
        for i in range(n):
            n_touched, old = 0, label[i]
            for e in range(starts[i], starts[i + 1]):
                c = label[neighbours[e]]
                if neighbours[e] != i:
                    if weight_to[c] == 0:
                        touched[n_touched] = c
                        n_touched += 1
                    weight_to[c] += weights[e]
            in_left[old] -= left[i]
            in_right[old] -= right[i]
            best = old
            gain = weight_to[old] - price * (left[i] * in_right[old] + right[i] * in_left[old])
            for k in range(n_touched):
                c = touched[k]
                its = weight_to[c] - price * (left[i] * in_right[c] + right[i] * in_left[c])
                if its > gain or (its == gain and c < best):
                    best, gain = c, its
                weight_to[c] = 0
            in_left[best] += left[i]
            in_right[best] += right[i]
            label[i] = best
            n_moved += best != old
        if n_moved == 0:
            break
    return label
