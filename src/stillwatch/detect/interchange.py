"""The confirming statistic: are the members of a group interchangeable?

People are themselves: a word that is rare in a group, used twice, was mostly used twice by the
same person. Workers of one queue are not: who asks the next question is chance. The statistic
counts how often two uses of a word that is rare *inside* the group fall on one account, against
what shuffled accounts would give. Wording that the group shares is used by many members and drops
out, so what found the group is not what confirms it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.profile import Floats, Ints
from stillwatch.text.ragged import Ragged

#: A word counts as personal when at most this share of the group's members use it.
RARE_SHARE = 0.1
#: The most self-possessed members are left out, in a web and in honest groups alike: a stranger
#: who strayed into a block must not hide it.
TRIMMED = 0.25


class WordUse(NamedTuple):
    """Who uses which personal word how often, in a group of accounts numbered from 0.

    Attributes:
        word: word number, sorted, shape (n_pairs,).
        account: its user.
        uses: questions of the user that hold it.
        questions: questions of each account, shape (n_accounts,).
    """

    word: Ints
    account: Ints
    uses: Ints
    questions: Ints


class Ownership(NamedTuple):
    """How much rare words belong to single members.

    Attributes:
        ratio: pairs of uses by one account over what chance gives; 1 = interchangeable members,
            people on their own reach 5 to 20; NaN when there is nothing to count.
        upper: upper end of a one-sided 95 % interval of `ratio`: jackknife over accounts, and
            three pairs more than were seen (what none seen allows for), so that little evidence
            never looks like interchange.
        expected: weighted pairs that chance gives: how much evidence there is.
    """

    ratio: float
    upper: float
    expected: float


def personal_word_use(account: Ints, words: Ragged, *, n_accounts: int) -> WordUse:
    """Tabulate the words that are rare enough inside a group to be somebody's own.

    Args:
        account: account of each question, shape (n_questions,), 0 .. n_accounts - 1.
        words: words of each question, one row a question; values small enough to be numbers of
            words, not hashes.
        n_accounts: members of the group.

    Returns:
        Uses of words that at most a tenth of the members (at least two) use.
    """
    code = words.values.astype(np.int64) * n_accounts + account[words.rows]
    code, count = np.unique(code, return_counts=True)
    word, user = code // n_accounts, code % n_accounts
    starts = _group_starts(word)
    users = np.diff(np.append(starts, len(word)))
    rare = np.repeat(users <= max(2.0, RARE_SHARE * n_accounts), users)
    questions = np.bincount(account, minlength=n_accounts)
    return WordUse(word[rare], user[rare], count[rare], questions)


def pairs_by_account(use: WordUse, members: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Count pairs of uses of one word by one account, and what chance would give.

    Args:
        use: the group's word uses.
        members: which accounts take part, shape (n_accounts,).

    Returns:
        Weighted pairs observed and expected, shape (n_accounts,) each.
    Source: join-count statistics (Moran 1948) with the account as the only neighbourhood; a word
        weighs as the inverse square root of its pairs, so that no single word decides.
    """
    n_accounts = len(members)
    size = use.questions * members
    n = float(size.sum())
    kept = members[use.account]
    word, user, count = use.word[kept], use.account[kept], use.uses[kept]
    if not len(word) or n < 2:
        return np.zeros(n_accounts), np.zeros(n_accounts)
    starts = _group_starts(word)
    total = np.repeat(np.add.reduceat(count, starts), np.diff(np.append(starts, len(word)))).astype(
        np.float64
    )
    weight = 1.0 / np.sqrt(np.maximum(total * (total - 1.0) / 2.0, 1.0))
    chance = float((size * (size - 1.0)).sum()) / (n * (n - 1.0))
    observed = np.bincount(user, weight * count * (count - 1.0) / 2.0, minlength=n_accounts)
    expected = np.bincount(user, weight * count * (total - 1.0) / 2.0, minlength=n_accounts)
    return np.asarray(observed, dtype=np.float64), np.asarray(chance * expected, dtype=np.float64)


def measure_ownership(use: WordUse, members: NDArray[np.bool_]) -> Ownership:
    """Measure how much the personal words of a group belong to single members.

    Args:
        use: the group's word uses.
        members: which accounts take part, shape (n_accounts,).

    Returns:
        The trimmed ratio and its upper bound. Low = interchangeable = suspicious.
    """
    observed, expected = pairs_by_account(use, members)
    observed, expected = observed[members], expected[members]
    order = np.argsort(observed - expected, kind="stable")
    kept = order[: max(2, round((1.0 - TRIMMED) * len(order)))]
    observed, expected = observed[kept], expected[kept]
    whole = float(expected.sum())
    if whole <= 0.0:
        return Ownership(np.nan, np.nan, 0.0)
    ratio = float(observed.sum()) / whole
    residual = observed - ratio * expected
    n = len(kept)
    error = np.sqrt(n / (n - 1.0) * float(residual @ residual)) / whole
    return Ownership(ratio, ratio + 3.0 / whole + 1.645 * float(error), whole)


def revisits(account: Ints, lines: Ragged) -> NDArray[np.bool_]:
    """Tell which questions of a group bring nothing new.

    A question is a revisit when even its rarest line was also sent by another member. A queue
    hands out each item once; a class works one sheet, a joke goes round, a test suite is run again.

    Args:
        account: account of each question, shape (n_questions,).
        lines: line hashes of each question, one row a question.

    Returns:
        Mask, shape (n_questions,).
    """
    if not len(account):
        return np.zeros(0, dtype=bool)
    values, line = np.unique(lines.values, return_inverse=True)
    n_accounts = np.int64(account.max() + 1)
    pair = np.unique(line * n_accounts + account[lines.rows])
    users = np.bincount(pair // n_accounts, minlength=len(values))
    rarest = np.full(len(account), np.iinfo(np.int64).max)
    np.minimum.at(rarest, lines.rows, users[line])
    return (rarest > 1) & (lines.lengths > 0)


def revisited_share(account: Ints, lines: Ragged) -> float:
    """Tell how many questions of a group bring nothing new.

    Args:
        account: account of each question, shape (n_questions,).
        lines: line hashes of each question, one row a question.

    Returns:
        Share of `revisits`, 0..1; 0 without questions.
    """
    return float(revisits(account, lines).mean()) if len(account) else 0.0


def _group_starts(sorted_values: Ints) -> Ints:
    if not len(sorted_values):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], sorted_values[1:] != sorted_values[:-1])))
