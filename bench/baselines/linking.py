"""Link accounts whose traits are alike, and take the connected components as groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from yardstick.observed import Ints, Observed
from yardstick.score import Group

#: Accounts compared with all others at a time: bounds memory.
_BLOCK = 512


def incidence(account: Ints, value: Ints, *, n_accounts: int) -> sparse.csr_array:
    """Build the table accounts x values, counting repeats.

    Args:
        account: number a row, shape (n,).
        value: code a row, shape (n,), >= 0.
        n_accounts: rows of the table.

    Returns:
        Counts, shape (n_accounts, n_values); values of one account alone are left out.
    """
    _, column = np.unique(value, return_inverse=True)
    shape = (n_accounts, int(column.max(initial=-1)) + 1)
    ones = np.ones(len(account), dtype=np.float32)
    table = sparse.csr_array((ones, (account, column)), shape=shape)
    table.sum_duplicates()
    holders = np.bincount(table.indices, minlength=shape[1])
    return table[:, holders > 1]


def similar_pairs(
    table: sparse.csr_array, *, jaccard: bool, least: float
) -> Iterator[tuple[Ints, Ints, np.ndarray]]:
    """Compare all accounts with all, block by block.

    Args:
        table: accounts x values; rows of unit length for the cosine, 0 and 1 for Jaccard.
        jaccard: take intersection / union, or else the inner product.
        least: similarities below are left out.

    Yields:
        First account, second account (greater than the first), similarity.
    """
    sizes = np.asarray(table.sum(axis=1)).ravel()
    turned = table.T.tocsr()
    for start in range(0, table.shape[0], _BLOCK):
        block = (table[start : start + _BLOCK] @ turned).tocoo()
        first, second, value = block.row + start, block.col, block.data
        if jaccard:
            value = value / (sizes[first] + sizes[second] - value)
        kept = (value >= least) & (second > first)
        yield first[kept].astype(np.int64), second[kept].astype(np.int64), value[kept]


def components(
    pairs: Sequence[tuple[Ints, Ints, np.ndarray]],
    observed: Observed,
    *,
    least: float,
    min_accounts: int,
) -> list[Group]:
    """Take connected components of the pairs at least so similar.

    Args:
        pairs: as `similar_pairs` gives them.
        observed: the log, for the exchanges of the accounts.
        least: similarity of a link.
        min_accounts: smaller components are left out.

    Returns:
        Groups, scored by their number of accounts.
    """
    first, second = (np.concatenate([p[i][p[2] >= least] for p in pairs]) for i in (0, 1))
    n = observed.n_accounts
    graph = sparse.coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label)
    groups = []
    for number in np.flatnonzero(sizes >= min_accounts):
        accounts = np.flatnonzero(label == number)
        groups.append(Group(accounts, observed.rows_of(accounts), float(len(accounts))))
    return groups
