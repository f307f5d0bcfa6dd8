"""Kin: a campaign's rare variants join it, the wording of strangers does not."""

import numpy as np
from detect_digests import Question, profiles_of

from stillwatch.detect.members.kin import find_kin

_TEMPLATE, _VARIANT = [1, 2, 3, 4], [50, 51, 52]
_MEMBERS = np.arange(10)


def _found(extra: list[Question], n_accounts: int = 60) -> list[int]:
    """Accounts of the exchanges that join ten members with one templated question each."""
    known = [Question(int(member), _TEMPLATE) for member in _MEMBERS]
    profiles = profiles_of([*known, *extra], n_accounts)
    digests = profiles.digests
    rows = np.flatnonzero([1 in row for row in _rows(digests.shingles)])
    kin = find_kin(digests, _MEMBERS, rows, n_accounts=n_accounts)
    assert not set(kin.tolist()) & set(rows.tolist())
    return digests.account[kin].tolist()


def _rows(shingles) -> list[list[int]]:
    ends = zip(shingles.offsets[:-1], shingles.offsets[1:], strict=True)
    return [shingles.values[a:b].tolist() for a, b in ends]


def test_a_rare_variant_joins() -> None:
    """Wording that three members use and nobody else is the campaign's."""
    assert [2, 5, 8] == _found([Question(member, _VARIANT) for member in (2, 5, 8)])


def test_wording_of_two_members_does_not() -> None:
    """Two members may have one phrase by chance."""
    assert [] == _found([Question(member, _VARIANT) for member in (2, 5)])


def test_wording_of_strangers_does_not() -> None:
    """What strangers say too is theirs; one stranger among many members is none of that."""
    members = [Question(member, _VARIANT) for member in (1, 2, 3, 4)]
    strangers = [Question(account, _VARIANT) for account in (20, 21)]
    assert [] == _found(members + strangers)
    assert [1, 2, 3, 4] == _found(members + strangers[:1])


def test_only_members_join() -> None:
    """A stranger with the campaign's wording stays out, whatever it asks."""
    outside = [Question(30, _TEMPLATE) for _ in range(5)]
    assert [] == _found(outside)


def test_one_common_shingle_is_not_enough() -> None:
    """A question must carry two shingles of the wording: one is a chance phrase."""
    members = [Question(member, _VARIANT) for member in (2, 5, 8)]
    assert [2, 5, 8] == _found([*members, Question(9, [_VARIANT[0], 900])])


def test_nothing_is_found_in_nothing() -> None:
    """Members without further wording have no kin."""
    digests = profiles_of([], 12).digests
    kin = find_kin(digests, _MEMBERS, np.empty(0, np.int64), n_accounts=12)
    assert [] == kin.tolist()
