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

from stillwatch.detect.profiles.profile import Floats, Ints
from stillwatch.text.ragged import Hashes, Ragged

#: A word counts as personal when at most this share of the group's members use it.
RARE_SHARE = 0.1
#: Part of the way from 1 to the highest possible ratio at which people begin.
_OWNED_SHARE = 0.1
#: The most self-possessed members are left out, in a web and in honest groups alike: a stranger
#: who strayed into a block must not hide it.
TRIMMED = 0.25
#: A question that more than this share of a group asks (and two at least) goes round in it; a queue
#: that wants several answers hands a question to fewer.
SHEET_SHARE = 0.15


class WordUse(NamedTuple):
    """Who uses which personal word how often, in a group of accounts numbered from 0.

    Attributes:
        word: word, sorted, shape (n_pairs,).
        account: its user.
        uses: questions of the user that hold it.
        questions: questions of each account, shape (n_accounts,).
    """

    word: Ints
    account: Ints
    uses: Ints
    questions: Ints

    @property
    def everybody(self) -> NDArray[np.bool_]:
        """All accounts of the group, as the mask that measuring takes."""
        return np.ones(len(self.questions), dtype=bool)


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
        words: words of each question, one row a question, 32-bit.
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
    by_chance = weight * chance * count * (total - 1.0) / 2.0
    expected = np.bincount(user, by_chance, minlength=n_accounts)
    return np.asarray(observed, dtype=np.float64), np.asarray(expected, dtype=np.float64)


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
    if whole <= 0.0 or len(kept) < 2:
        return Ownership(np.nan, np.nan, 0.0)
    ratio = float(observed.sum()) / whole
    residual = observed - ratio * expected
    n = len(kept)
    error = np.sqrt(n / (n - 1.0) * float(residual @ residual)) / whole
    return Ownership(ratio, ratio + 3.0 / whole + 1.645 * float(error), whole)


def confirms(key: Hashes) -> NDArray[np.bool_]:
    """Split exchanges in two: one half finds groups, the other confirms them.

    Args:
        key: hash of each exchange's id, shape (n,).

    Returns:
        Which belong to the confirming half.
    """
    return np.asarray((key & np.uint64(1)) == 1, dtype=np.bool_)


def first_asked(account: Ints, text: Hashes) -> NDArray[np.bool_]:
    """Tell which questions an account had not asked before, word for word.

    Whoever asks again, a person or a worker whose answer got lost, says nothing about itself by it.

    Args:
        account: account of each question, shape (n,).
        text: hash of each question.

    Returns:
        False for all but one of the same question of one account.
    """
    order = np.lexsort((text, account))
    again = np.zeros(len(order), dtype=bool)
    again[1:] = (np.diff(account[order]) == 0) & (text[order][1:] == text[order][:-1])
    fresh = np.ones(len(order), dtype=bool)
    fresh[order[again]] = False
    return fresh


class FamilyOwnership(NamedTuple):
    """How much the personal words of many groups belong to single members, shape (n_groups,) each.

    Attributes:
        questions: questions of each group (count).
        accounts: members of each (count).
        ratio: as in `Ownership`; NaN when there is nothing to count.
        lower: lower end of a one-sided 95 % interval of `ratio`; NaN as `ratio`.
        upper: as in `Ownership`.
        chance: probability that two questions of a group are one account's; its inverse is the
            highest ratio that the group could have.
    """

    questions: Ints
    accounts: Ints
    ratio: Floats
    lower: Floats
    upper: Floats
    chance: Floats

    def is_personal(self, most_ratio: float) -> NDArray[np.bool_]:
        """Tell which groups are plainly made of people.

        Args:
            most_ratio: limit for groups of many accounts.

        Returns:
            Mask, shape (n_groups,).
        """
        return np.asarray(self.lower > ratio_limit(self.chance, most_ratio), dtype=np.bool_)

    def is_alike(self, most_ratio: float) -> NDArray[np.bool_]:
        """Tell which groups plainly are not made of people.

        Args:
            most_ratio: limit for groups of many accounts.

        Returns:
            Mask, shape (n_groups,); False where there is too little to tell.
        """
        return np.asarray(self.upper < ratio_limit(self.chance, most_ratio), dtype=np.bool_)


def ratio_limit(chance: Floats | float, most_ratio: float) -> Floats:
    """Say from which ownership ratio on a group is made of people.

    A few busy accounts bound the ratio: among four it cannot pass 4, however much they are
    themselves. So the limit lies at a tenth of the way from 1 to the highest possible ratio.

    Args:
        chance: probability that two questions of the group are one account's.
        most_ratio: the limit's own limit, for groups of many accounts.

    Returns:
        The limit, of the shape of `chance`.
    """
    highest = 1.0 / np.maximum(np.asarray(chance, dtype=np.float64), 1e-12)
    return np.asarray(np.minimum(most_ratio, 1.0 + _OWNED_SHARE * (highest - 1.0)))


def measure_families(
    group: Ints, account: Ints, words: Ragged, *, n_groups: int | None = None
) -> FamilyOwnership:
    """Measure ownership in many groups of questions at once.

    Args:
        group: group of each question, -1 for none, shape (n_questions,).
        account: account of each question.
        words: words of each question, one row a question.
        n_groups: how many groups there are, 1 above the highest number when None.

    Returns:
        One figure a group: `measure_ownership` over all of its members and questions.
    """
    rows = np.flatnonzero(group >= 0)
    n_groups = int(group.max(initial=-1)) + 1 if n_groups is None else n_groups
    n_accounts = int(account.max(initial=0)) + 1
    seats, seat = np.unique(group[rows] * np.int64(n_accounts) + account[rows], return_inverse=True)
    of_seat, size = seats // n_accounts, np.bincount(seat, minlength=len(seats))
    questions = np.bincount(of_seat, size, minlength=n_groups).astype(np.int64)
    accounts = np.bincount(of_seat, minlength=n_groups)
    pairs = np.maximum(questions * (questions - 1.0), 1.0)
    chance = np.bincount(of_seat, size * (size - 1.0), minlength=n_groups) / pairs
    observed, expected = _pairs_by_seat(words.take(rows), seat, of_seat, accounts=accounts)
    expected *= chance[of_seat]
    kept = _untrimmed(observed - expected, of_seat, size, accounts=accounts, questions=questions)
    observed, expected, of_seat = observed[kept], expected[kept], of_seat[kept]
    seen = np.bincount(of_seat, observed, minlength=n_groups)
    whole = np.bincount(of_seat, expected, minlength=n_groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(whole > 0.0, seen / whole, np.nan)
        residual = (observed - ratio[of_seat] * expected) ** 2
        n = np.bincount(of_seat, minlength=n_groups)
        error = np.sqrt(n / (n - 1.0) * np.bincount(of_seat, residual, minlength=n_groups)) / whole
        upper = ratio + 3.0 / whole + 1.645 * error
    return FamilyOwnership(questions, accounts, ratio, ratio - 1.645 * error, upper, chance)


def _untrimmed(excess: Floats, group: Ints, size: Ints, *, accounts: Ints, questions: Ints) -> Ints:
    """Keep all but the most self-possessed quarter, of accounts and of questions, of each group."""
    order = np.lexsort((-excess, group))
    mine = group[order]
    heads = np.searchsorted(mine, mine)
    place = np.arange(len(order)) - heads
    asked = np.cumsum(size[order]) - np.concatenate(([0], np.cumsum(size[order])))[heads]
    dropped = (place < np.minimum(TRIMMED * accounts[mine], accounts[mine] - 2)) & (
        asked <= TRIMMED * questions[mine]
    )
    return np.asarray(order[~dropped])


def _pairs_by_seat(
    words: Ragged, seat: Ints, of_seat: Ints, *, accounts: Ints
) -> tuple[Floats, Floats]:
    """Count weighted pairs of uses of personal words in each seat, and all that could be."""
    n_seats = len(of_seat)
    _, word = np.unique(words.values, return_inverse=True)
    seat = seat[words.rows]
    group = of_seat[seat]
    order = np.lexsort((seat, word, group))
    group, word, seat = group[order], word[order], seat[order]
    starts = _group_starts(group, word, seat)
    count = np.diff(np.append(starts, len(group)))
    group, word, seat = group[starts], word[starts], seat[starts]
    heads = _group_starts(group, word)
    users = np.diff(np.append(heads, len(group)))
    total = np.repeat(np.add.reduceat(count, heads) if len(heads) else count, users)
    rare = np.repeat(users, users) <= np.maximum(2.0, RARE_SHARE * accounts[group])
    seat, count, total = seat[rare], count[rare], total[rare].astype(np.float64)
    weight = 1.0 / np.sqrt(np.maximum(total * (total - 1.0) / 2.0, 1.0))
    observed = np.bincount(seat, weight * count * (count - 1.0) / 2.0, minlength=n_seats)
    possible = np.bincount(seat, weight * count * (total - 1.0) / 2.0, minlength=n_seats)
    return np.asarray(observed, dtype=np.float64), np.asarray(possible, dtype=np.float64)


def revisits(account: Ints, lines: Ragged) -> NDArray[np.bool_]:
    """Tell which questions of a group go round in it.

    A question goes round when even its rarest line was sent by many members. A queue hands out each
    item once, or to a few who shall answer it anew; a class works one sheet, a joke goes round, a
    test suite is run again.

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
    members = len(np.unique(account))
    return (rarest > max(1.0, SHEET_SHARE * members)) & (lines.lengths > 0)


def revisited_share(account: Ints, lines: Ragged) -> float:
    """Tell how many questions of a group go round in it.

    Args:
        account: account of each question, shape (n_questions,).
        lines: line hashes of each question, one row a question.

    Returns:
        Share of `revisits`, 0..1; 0 without questions.
    """
    return float(revisits(account, lines).mean()) if len(account) else 0.0


def _group_starts(*keys: Ints) -> Ints:
    """Say where rows, sorted by their keys, begin to differ from the row before."""
    fresh = np.zeros(len(keys[0]), dtype=bool)
    fresh[:1] = True
    for key in keys:
        fresh[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(fresh)
