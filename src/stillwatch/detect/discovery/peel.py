"""Peeling: the densest block of a weighted two-sided graph, near-linear in its edges.

The node with the least weight left for its price is removed, again and again; of all the graphs on
the way the densest is kept. With prices of 1 it is at least half as dense as the densest there is.

Source: Charikar 2000; on two-sided graphs with weights against camouflage, Hooi et al. 2016
(FRAUDAR). Weights are the caller's; prices are ours: a node of the right side costs more than one
of the left, or many small stars that share nothing with each other would be the densest block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stillwatch.detect.profiles.profile import Ints
from stillwatch.text.runs import compiled


class Dense(NamedTuple):
    """The densest block that was passed.

    Attributes:
        nodes: its nodes, sorted; empty when no block is large enough.
        density: weight inside over the price of the nodes; -1 when no block is large enough.
    """

    nodes: Ints
    density: float


class Graph(NamedTuple):
    """A weighted graph with two sides; edges stand once on each.

    Attributes:
        starts: edges of node `i` are `starts[i]:starts[i + 1]`, shape (n_nodes + 1,).
        neighbours: the other end, shape (2 * n_edges,).
        weights: whole numbers, so that sums do not depend on their order, shape (2 * n_edges,).
        prices: of each node, whole numbers above 0, shape (n_nodes,).
        n_left: nodes of the left side, which come first (count).
    """

    starts: Ints
    neighbours: Ints
    weights: Ints
    prices: Ints
    n_left: int

    @property
    def n_nodes(self) -> int:
        """Nodes of both sides (count)."""
        return len(self.starts) - 1


def graph_of(
    left: Ints, right: Ints, weights: Ints, *, sizes: tuple[int, int], price: int = 1
) -> Graph:
    """Build a graph from its edges.

    Args:
        left: left ends, shape (n_edges,); no edge stands twice.
        right: right ends, numbered from 0, shape (n_edges,).
        weights: whole numbers >= 0, shape (n_edges,).
        sizes: nodes on the left and on the right.
        price: of a right node; left ones cost 1.

    Returns:
        The graph; right nodes are numbered after the left ones.
    """
    rows = sparse.csr_matrix((weights.astype(np.int64), (left, right)), shape=sizes)
    columns = rows.tocsc()
    starts = np.concatenate((rows.indptr[:-1], columns.indptr + rows.nnz)).astype(np.int64)
    neighbours = np.concatenate((rows.indices.astype(np.int64) + sizes[0], columns.indices))
    both = np.concatenate((rows.data, columns.data))
    prices = np.repeat(np.array([1, price], dtype=np.int64), sizes)
    return Graph(starts, neighbours.astype(np.int64), both, prices, sizes[0])


def densest(graph: Graph, alive: NDArray[np.bool_], *, least: int) -> Dense:
    """Peel what is alive of a graph and keep the densest block.

    Args:
        graph: the graph.
        alive: nodes that take part, shape (n_nodes,).
        least: left nodes that a block has at least (count).

    Returns:
        The block; the same on every machine, ties fall to the lower node.
    """
    nodes = np.flatnonzero(alive)
    removed, n_kept, density = _peel(*graph, nodes, least)
    return Dense(np.sort(removed[len(removed) - n_kept :]), density)


@compiled
def _degrees(starts: Ints, neighbours: Ints, weights: Ints, inside: NDArray[np.bool_]) -> Ints:  # noqa: PLR0917 - compiled
    degree = np.zeros(len(inside), dtype=np.int64)
    for i in np.flatnonzero(inside):
        for e in range(starts[i], starts[i + 1]):
            if inside[neighbours[e]]:
                degree[i] += weights[e]
    return degree


@compiled
def _less(key: Ints, prices: Ints, a: int, b: int) -> bool:  # noqa: PLR0917 - compiled
    one, other = key[a] * prices[b], key[b] * prices[a]
    return bool(one < other or (one == other and a < b))


@compiled
def _sift(  # noqa: PLR0917 - compiled
    heap: Ints, place: Ints, key: Ints, prices: Ints, size: int, at: int
) -> None:
    """Bring the node at a place of the heap where it belongs, up or down."""
    node = heap[at]
    while at > 0 and _less(key, prices, node, heap[(at - 1) // 2]):
        heap[at] = heap[(at - 1) // 2]
        place[heap[at]] = at
        at = (at - 1) // 2
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _less(key, prices, heap[child + 1], heap[child]):
            child += 1
        if not _less(key, prices, heap[child], node):
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = node
    place[node] = at


@compiled
def _peel(  # noqa: PLR0913, PLR0917 - compiled
    starts: Ints,
    neighbours: Ints,
    weights: Ints,
    prices: Ints,
    n_left: int,
    nodes: Ints,
    least: int,
) -> tuple[Ints, int, float]:
    """Give the nodes in the order they leave, and how many the densest block kept."""
    size, n_accounts = len(nodes), int(np.sum(nodes < n_left))
    place = np.full(len(starts) - 1, -1, dtype=np.int64)
    heap = nodes.copy()
    for at in range(size):
        place[heap[at]] = at
    key = _degrees(starts, neighbours, weights, place >= 0)
    whole, price = np.sum(key) // 2, np.sum(prices[nodes])
    for at in range(size - 1, -1, -1):
        _sift(heap, place, key, prices, size, at)
    removed = np.empty(size, dtype=np.int64)
    best, kept = -1.0, 0
    for step in range(len(nodes)):
        if n_accounts >= least and whole / price > best:
            best, kept = whole / price, size
        node = heap[0]
        removed[step], place[node] = node, -1
        whole -= key[node]
        price -= prices[node]
        n_accounts -= node < n_left
        size -= 1
        if size > 0:
            heap[0] = heap[size]
            _sift(heap, place, key, prices, size, 0)
        for e in range(starts[node], starts[node + 1]):
            j = neighbours[e]
            if place[j] >= 0:
                key[j] -= weights[e]
                _sift(heap, place, key, prices, size, place[j])
    return removed, kept, best
