"""Members of a named campaign: strays leave, companions join.

A person may carry a campaign's wording by chance: whoever repeats itself as people do, leaves. And
some workers of a queue wrap each question anew, so that no
shared skeleton finds them. Once a campaign is named, its questions tell what the queue is about
(likeness), and a second trait needs no shared wording at all: people say again what they said
before, a worker does not (echo). An account joins when both are unusual among reference accounts;
how unusual is set by target-decoy competition, the reference accounts being the decoys.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from stillwatch.detect.confirmation.interchange import RARE_SHARE
from stillwatch.detect.discovery.asked import Asked
from stillwatch.detect.discovery.blocks import Block
from stillwatch.detect.profiles.counting import numbered
from stillwatch.detect.profiles.profile import Floats, Ints, Profiles
from stillwatch.text.ragged import Hashes, Ragged

#: Questions of an account that echo is measured on, and the fewest that make it worth measuring.
_MOST, _LEAST = 16, 5
#: A word is part of a template when this share of a family's questions holds it.
_TEMPLATE_SHARE = 0.6
#: Quantile of the campaign's own likeness from which on a question sounds like it.
_TYPICAL = 0.1
#: No word counts for more than this (in nats) in likeness, so that no single one decides.
_LOUDEST = 2.0


class Echo(NamedTuple):
    """How much accounts repeat themselves.

    Attributes:
        score: share of an account's rare words that it used in another question too, less what
            chance gives; people reach 0.3 to 0.8, workers of a queue 0; shape (n_accounts,).
        questions: questions it was measured on (count), shape (n_accounts,).
    """

    score: Floats
    questions: Ints


def measure_echo(asked: Asked, rows: Ints, *, n_accounts: int, seed: int) -> Echo:
    """Measure how much accounts repeat their own rare words.

    Args:
        asked: the log.
        rows: digests looked at.
        n_accounts: accounts of the log.
        seed: of the draw of questions, at most 16 an account.

    Returns:
        One score an account; low = suspicious.
    """
    rows, _ = asked.draw(rows, _MOST, np.random.default_rng([seed, 2]))
    account, words = asked.account[rows], asked.words.take(rows)
    n, row = len(rows), words.rows
    word = numbered(words.values)[1]
    users_seen, user = np.unique(account, return_inverse=True)
    n_users = len(users_seen)
    pairs, place = numbered(word * np.int64(max(n_users, 1)) + user[row])
    uses = np.bincount(place, minlength=len(pairs))
    size = int(word.max(initial=0)) + 1
    users = np.bincount(pairs // max(n_users, 1), minlength=size)
    total = np.bincount(word, minlength=size)
    weight = np.log(n / total[word]) * (users[word] <= max(2.0, RARE_SHARE * n_users))
    questions = np.bincount(account, minlength=n_accounts)
    others = questions[account[row]] - 1
    chance = 1.0 - (1.0 - (total[word] - 1.0) / max(n - 1.0, 1.0)) ** others
    mass = np.bincount(row, weight, minlength=n)
    excess = np.bincount(row, weight * ((uses[place] > 1) - chance), minlength=n)
    heard = mass > 0
    counted = np.bincount(account[heard], minlength=n_accounts)
    score = np.bincount(account[heard], excess[heard] / mass[heard], minlength=n_accounts)
    return Echo(score / np.maximum(counted, 1), counted.astype(np.int64))


def drop_strays(asked: Asked, block: Block, *, n_accounts: int, limit: float) -> Block:
    """Take out of a named block the members that repeat themselves as people do.

    Args:
        asked: the log.
        block: the block.
        n_accounts: accounts of the log.
        limit: echo from which on a member is a person; the middle of the reference's.

    Returns:
        The block without members that echo themselves in its questions.
    """
    echo = measure_echo(asked, block.rows, n_accounts=n_accounts, seed=0)
    return block.without((echo.questions >= _LEAST) & (echo.score >= limit), asked.account)


class Theme:
    """What a campaign asks about: log odds of words in its questions against the reference's.

    Args:
        questions: words of its questions, templates included, one row a question.
        family: skeleton family of each.
        reference: words of the reference's questions.
    """

    def __init__(self, questions: Ragged, family: Ints, reference: Ragged) -> None:
        asked, reference_words = _shares(questions), _shares(reference)
        words = np.union1d(asked[0], reference_words[0])
        odds = _log_odds(words, asked, len(questions)) - _log_odds(
            words, reference_words, len(reference)
        )
        odds[np.isin(words, _template_words(questions, family))] = 0.0
        self._words, self._odds = words, np.clip(odds, -_LOUDEST, _LOUDEST)
        self._typical = float(np.quantile(self.likeness(questions), _TYPICAL))

    def likeness(self, questions: Ragged) -> Floats:
        """Say how much questions sound like the campaign's.

        Args:
            questions: words, one row a question.

        Returns:
            Mean log odds of a word, shape (n_questions,); higher = more alike.
        """
        place = np.searchsorted(self._words, questions.values)
        place = np.minimum(place, len(self._words) - 1)
        odds = np.where(self._words[place] == questions.values, self._odds[place], 0.0)
        total = np.bincount(questions.rows, odds, minlength=len(questions))
        return np.asarray(total / np.maximum(questions.lengths, 1), dtype=np.float64)

    def sounds_alike(self, questions: Ragged) -> NDArray[np.bool_]:
        """Tell which questions sound like nine tenths of the campaign's own do.

        Args:
            questions: words, one row a question.

        Returns:
            Mask, shape (n_questions,).
        """
        return np.asarray(self.likeness(questions) >= self._typical, dtype=np.bool_)


class Companions(NamedTuple):
    """Accounts that join a campaign.

    Attributes:
        accounts: account numbers, sorted.
        decoys: reference accounts that would have joined as well (count).
        rows: digests of theirs that sound like the campaign.
    """

    accounts: Ints
    decoys: int
    rows: Ints


#: What joins when nothing may.
NOBODY = Companions(np.empty(0, np.int64), 0, np.empty(0, np.int64))


def find_companions(
    theme: Theme,
    log: tuple[Profiles, Echo],
    honest: tuple[Profiles, Echo],
    *,
    outside: NDArray[np.bool_],
    fdr: float,
) -> Companions:
    """Find accounts that ask what a campaign asks and do not echo themselves.

    Both traits are ranked among reference accounts and the ranks multiplied. The threshold is the
    largest at which (1 + decoys, scaled to the accounts looked at) / targets stays below `fdr`.

    Args:
        theme: the campaign's.
        log: profiles of the log and their echo.
        honest: the same of the reference.
        outside: accounts of the log in no campaign, shape (n_accounts,). Those that the reference
            itself vouches for never join.
        fdr: share of joining accounts that may be wrong.

    Returns:
        The accounts that join, none when the reference or the evidence is too thin.
    """
    (alike, loud), echo = _likeness(theme, log[0]), log[1]
    (_, decoy_loud), decoy_echo = _likeness(theme, honest[0]), honest[1]
    vouched = pc.is_in(log[0].accounts, value_set=honest[0].accounts).to_numpy(zero_copy_only=False)
    target = np.flatnonzero(outside & ~vouched & (echo.questions >= _LEAST))
    decoy = np.flatnonzero(decoy_echo.questions >= _LEAST)
    if not len(target) or not len(decoy):
        return NOBODY
    still, heard = np.sort(decoy_echo.score[decoy]), np.sort(decoy_loud[decoy])
    rank = _joint_rank(echo.score[target], loud[target], still=still, heard=heard)
    decoy_rank = _joint_rank(decoy_echo.score[decoy], decoy_loud[decoy], still=still, heard=heard)
    steps = np.sort(rank)
    wrong = np.searchsorted(np.sort(decoy_rank), steps, side="right")
    rate = (1.0 + wrong * len(target) / len(decoy)) / np.arange(1, len(steps) + 1)
    good = np.flatnonzero(rate <= fdr)
    if not len(good):
        return NOBODY
    limit = steps[good[-1]]
    joined = target[rank <= limit]
    rows = np.flatnonzero(alike & np.isin(log[0].digests.account, joined))
    return Companions(joined, int(np.sum(decoy_rank <= limit)), rows)


def _likeness(theme: Theme, profiles: Profiles) -> tuple[NDArray[np.bool_], Floats]:
    """Which questions sound like the campaign's, and the share of them in each account."""
    account, n = profiles.digests.account, profiles.n_accounts
    alike = theme.sounds_alike(profiles.digests.words)
    count = np.maximum(np.bincount(account, minlength=n), 1)
    return alike, np.bincount(account[alike], minlength=n) / count


def _joint_rank(echo: Floats, loud: Floats, *, still: Floats, heard: Floats) -> Floats:
    """Multiply the two ranks among reference accounts, in logarithms; low = suspicious."""
    quiet = (np.searchsorted(still, echo, side="right") + 1.0) / (len(still) + 1.0)
    near = (len(heard) - np.searchsorted(heard, loud, side="left") + 1.0) / (len(heard) + 1.0)
    return np.asarray(np.log(quiet) + np.log(near), dtype=np.float64)


def _shares(questions: Ragged) -> tuple[Hashes, Ints]:
    values, counts = np.unique(questions.values, return_counts=True)
    return values, counts.astype(np.int64)


def _log_odds(words: Hashes, known: tuple[Hashes, Ints], total: int) -> Floats:
    counts = np.zeros(len(words))
    counts[np.searchsorted(words, known[0])] = known[1]
    return np.asarray(np.log((counts + 0.5) / (total + 1.0)), dtype=np.float64)


def _template_words(questions: Ragged, family: Ints) -> Hashes:
    _, index = np.unique(family, return_inverse=True)
    size = np.bincount(index)
    values, word = numbered(questions.values)
    code, count = np.unique(word * np.int64(len(size)) + index[questions.rows], return_counts=True)
    common = count >= _TEMPLATE_SHARE * size[code % len(size)]
    return np.asarray(values[np.unique(code[common] // len(size))], dtype=np.uint64)
