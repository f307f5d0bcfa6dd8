"""Dense blocks of the account-by-skeleton graph: who shares which families of rare wording.

Two skeletons belong together when the same accounts use them, by the cosine of their account sets
and average linkage: one shared value never fuses two groups, as single linkage would.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.profile import Digests, Ints, Profiles
from stillwatch.detect.traits import Families

#: Families linked at most, those with most exchanges: the linkage is quadratic in them.
_MOST_FAMILIES = 1_500


class Block(NamedTuple):
    """A group of accounts that share rare wording: a candidate, nothing more.

    Attributes:
        families: family numbers, most exchanges first.
        accounts: account numbers, sorted.
        rows: digests that carry the shared wording, sorted by account.
        n_principals: organisations behind the accounts; an account of none counts for itself.
    """

    families: Ints
    accounts: Ints
    rows: Ints
    n_principals: int

    def without(self, strays: NDArray[np.bool_], account: Ints) -> Block:
        """Drop members; the number of parties is left to be counted again.

        Args:
            strays: which accounts leave, shape (n_accounts,).
            account: account of every digest of the log.

        Returns:
            The smaller block.
        """
        return self._replace(
            accounts=self.accounts[~strays[self.accounts]],
            rows=self.rows[~strays[account[self.rows]]],
        )


def find_blocks(profiles: Profiles, families: Families, config: DetectConfig) -> list[Block]:
    """Join families used by the same accounts, and list the groups worth a test.

    Args:
        profiles: the log.
        families: its families of rare wording.
        config: least sizes and the linking cosine.

    Returns:
        Blocks of at least the least size, the one with most exchanges first.
    """
    digests = profiles.digests
    rows = np.flatnonzero(families.of_digest >= 0)
    family, account = families.of_digest[rows], digests.account[rows]
    n_families = min(families.n_families, _MOST_FAMILIES)
    kept = family < n_families
    used = sparse.csr_matrix(
        (np.ones(int(kept.sum())), (family[kept], account[kept])),
        shape=(n_families, profiles.n_accounts),
    )
    used.data = np.ones_like(used.data)
    used.sum_duplicates()
    used.data = np.minimum(used.data, 1.0)
    wide = np.flatnonzero(np.diff(used.indptr) >= max(3, config.min_accounts // 2))
    blocks = []
    for group in _link(used[wide], config.link_cosine):
        block = _block(digests, families, wide[group])
        if block.n_principals >= config.min_accounts and len(block.rows) >= config.min_exchanges:
            blocks.append(block)
    return sorted(blocks, key=lambda block: -len(block.rows))


def _link(used: sparse.csr_matrix, cosine: float) -> list[Ints]:
    n_families = used.shape[0]
    if n_families < 2:
        return [np.arange(n_families)] * (n_families == 1)
    size = np.maximum(np.asarray(used.sum(axis=1)).ravel(), 1.0)
    overlap = (used @ used.T).toarray()
    distance = 1.0 - overlap / np.sqrt(np.outer(size, size))
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.maximum(distance, 0.0), checks=False), method="average")
    label = fcluster(tree, t=1.0 - cosine, criterion="distance")
    return [np.flatnonzero(label == value) for value in np.unique(label)]


def _block(digests: Digests, families: Families, members: Ints) -> Block:
    rows = np.flatnonzero(np.isin(families.of_digest, members))
    accounts = np.unique(digests.account[rows])
    return Block(np.sort(members), accounts, rows, count_principals(digests, rows))


def count_principals(digests: Digests, rows: NDArray[np.int64]) -> int:
    """Count the organisations behind digests; accounts without one count for themselves.

    Args:
        digests: the log.
        rows: digests looked at.

    Returns:
        How many parties, if nobody hides.
    """
    org, account = digests.org[rows], digests.account[rows]
    return len(np.unique(org[org != 0])) + len(np.unique(account[org == 0]))
