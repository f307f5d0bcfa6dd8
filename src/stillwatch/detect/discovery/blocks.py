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
from stillwatch.detect.confirmation.principals import Parties
from stillwatch.detect.discovery.traits import Families, least_users
from stillwatch.detect.profiles.profile import Digests, Ints, Profiles

#: Families linked at most, those with most exchanges: the linkage is quadratic in them.
_MOST_FAMILIES = 3_000
#: Workers of a mixed queue use nearly as many families as chance gives them; below this part of
#: what members typically reach, an account has one phrase in common with them and no more.
_MIXED, _ASTRAY = 0.6, 0.5
#: Questions from which on the number of families says something, and below which part of the
#: typical number of questions an account hangs on by a thread.
_TELLING, _THREAD = 3, 0.2
#: A declared party that asks more than this share of a group's questions is no hidden member.
_LARGE_PARTY = 0.1


class Block(NamedTuple):
    """A group of accounts that share rare wording: a candidate, nothing more.

    Attributes:
        families: family numbers, most exchanges first.
        accounts: account numbers, sorted.
        rows: digests that carry the shared wording, sorted by account.
        n_principals: declared parties behind the accounts; an account of none counts for itself.
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


def find_blocks(
    profiles: Profiles, families: Families, parties: Parties, *, config: DetectConfig
) -> list[Block]:
    """Join families used by the same accounts, and list the groups worth a test.

    Args:
        profiles: the log.
        families: its families of rare wording.
        parties: who stands behind the accounts openly.
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
    used.sum_duplicates()
    used.data[:] = 1.0
    wide = np.flatnonzero(np.diff(used.indptr) >= least_users(config))
    blocks = []
    for group in _link(used[wide], config.link_cosine):
        block = drop_hangers_on(_block(digests, families, wide[group]), families, digests.account)
        block = block._replace(n_principals=parties.count(block.accounts))
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


def drop_hangers_on(block: Block, families: Families, account: Ints) -> Block:
    """Take out the accounts that one common phrase ties to a group of many.

    Args:
        block: the group.
        families: of the log.
        account: account of every digest of the log.

    Returns:
        The group as it was when it has few families, or when its members keep to one each.
    """
    if len(block.families) < _TELLING:
        return block
    members, seat = np.unique(account[block.rows], return_inverse=True)
    family = np.unique(families.of_digest[block.rows], return_inverse=True)[1]
    n_families = int(family.max()) + 1
    asked = np.bincount(seat, minlength=len(members))
    reached = np.bincount(np.unique(seat * n_families + family) // n_families)
    share = np.bincount(family) / len(family)
    sizes = np.unique(asked)
    by_chance = np.array([float((1.0 - (1.0 - share) ** n).sum()) for n in sizes.tolist()])
    mixing = reached / by_chance[np.searchsorted(sizes, asked)]
    telling = asked >= _TELLING
    typical = float(np.median(mixing[telling])) if telling.any() else 0.0
    if typical < _MIXED:
        return block
    astray = telling & (mixing < _ASTRAY * typical)
    thread = ~telling & (asked < _THREAD * np.median(asked))
    strays = np.zeros(int(account.max()) + 1, dtype=bool)
    strays[members[astray | thread]] = True
    return block.without(strays, account)


def drop_threads(block: Block, account: Ints) -> Block:
    """Take out the accounts that carry a group's wording hardly ever.

    Args:
        block: a named group.
        account: account of every digest of the log.

    Returns:
        The group without accounts that have less than a fifth of what members typically have.
    """
    asked = np.bincount(account[block.rows], minlength=int(account.max(initial=0)) + 1)
    typical = float(np.median(asked[block.accounts])) if len(block.accounts) else 0.0
    return block.without(asked < _THREAD * typical, account)


def drop_open_party(block: Block, parties: Parties, account: Ints) -> Block:
    """Take out a declared party of several accounts that asks a large part by itself.

    A test suite or a labelling job that happens to hold a web's items hides nothing: it has a name.

    Args:
        block: a named group.
        parties: who stands behind the accounts openly.
        account: account of every digest of the log.

    Returns:
        The group without such parties.
    """
    party = parties.of_account[account[block.rows]]
    questions = np.bincount(party, minlength=parties.n_parties)
    accounts = np.bincount(parties.of_account[block.accounts], minlength=parties.n_parties)
    large = (accounts > 1) & (questions > _LARGE_PARTY * len(block.rows))
    return block.without(large[parties.of_account] & parties.declared, account)


def _block(digests: Digests, families: Families, members: Ints) -> Block:
    rows = np.flatnonzero(np.isin(families.of_digest, members))
    accounts = np.unique(digests.account[rows])
    return Block(np.sort(members), accounts, rows, len(accounts))
