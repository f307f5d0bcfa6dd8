"""The questions of a log, arranged to draw groups of askers from."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.confirmation.interchange import WordUse, first_asked, personal_word_use
from stillwatch.detect.confirmation.principals import Parties
from stillwatch.detect.profiles.profile import Ints, Profiles

#: Honest accounts that null groups are drawn among: a sample of this size decides as well as all.
MOST_HONEST = 20_000


def draw_honest(honest: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Draw the honest accounts that stand for all of them, before anything of theirs is copied.

    Args:
        honest: which accounts are, shape (n_accounts,).
        seed: of the draw.

    Returns:
        The same mask when there are at most `MOST_HONEST`, else one of as many.
    """
    rows = np.flatnonzero(honest)
    if len(rows) <= MOST_HONEST:
        return honest
    drawn = np.zeros(len(honest), dtype=bool)
    drawn[np.random.default_rng([seed, 4]).permutation(rows)[:MOST_HONEST]] = True
    return drawn


class Asked:
    """The questions of a log, arranged to draw groups from.

    Args:
        profiles: the log.
        parties: who stands behind the accounts openly; one party is one asker.
    """

    def __init__(self, profiles: Profiles, parties: Parties) -> None:
        digests = profiles.digests
        self.n_accounts = profiles.n_accounts
        self.words, self.lines, self.key = digests.words, digests.lines, digests.key
        self.account = digests.account
        self.party = parties.of_account[digests.account]
        self.is_new = first_asked(self.party, digests.text)

    def take(self, mask: NDArray[np.bool_]) -> Asked:
        """Keep some questions only; those of an account are kept or dropped together.

        Args:
            mask: which, shape (n_questions,).

        Returns:
            The same log, smaller; accounts are numbered anew.
        """
        kept = copy.copy(self)
        rows = np.flatnonzero(mask)
        kept.words, kept.lines = self.words.take(rows), self.lines.take(rows)
        kept.key, kept.party = self.key[rows], self.party[rows]
        kept.is_new = self.is_new[rows]
        accounts, kept.account = np.unique(self.account[rows], return_inverse=True)
        kept.n_accounts = len(accounts)
        return kept

    def draw(self, rows: Ints, most: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw at most so many questions of each party, and number the parties from 0.

        Args:
            rows: digests to draw from.
            most: questions a party.
            rng: draws.

        Returns:
            Digests drawn, no question of a party twice, and for each its party's number, in
            order of party.
        """
        order = rng.permutation(rows[self.is_new[rows]])
        order = order[np.argsort(self.party[order], kind="stable")]
        mine = self.party[order]
        order = order[np.arange(len(order)) - np.searchsorted(mine, mine) < most]
        return order, np.unique(self.party[order], return_inverse=True)[1]

    def use(self, rows: Ints, number: Ints) -> WordUse:
        """Tabulate personal words.

        Args:
            rows: digests.
            number: party number of each, from 0.

        Returns:
            Who uses which word.
        """
        n_accounts = int(number.max(initial=0)) + 1
        return personal_word_use(number, self.words.take(rows), n_accounts=n_accounts)

    def sample(self, rows: Ints, most: int, seed: int) -> Ints:
        """Keep the questions of at most so many parties.

        Args:
            rows: digests.
            most: parties.
            seed: of the draw.

        Returns:
            Digests, in the order given.
        """
        members = np.unique(self.party[rows])
        if len(members) <= most:
            return rows
        drawn = np.random.default_rng([seed, 3]).permutation(members)[:most]
        return rows[np.isin(self.party[rows], drawn)]
