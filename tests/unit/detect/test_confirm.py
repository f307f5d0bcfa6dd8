"""Confirmation: the tests of a group, on the exchanges that did not find it."""

from dataclasses import replace

import numpy as np
import pytest
from detect_digests import Question, askers, profiles_of

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.calibrate import Neighbourhoods
from stillwatch.detect.confirmation.confirm import (
    Judged,
    drop_repeaters,
    judge,
    might_be_web,
    unite,
)
from stillwatch.detect.confirmation.principals import Parties, Registry
from stillwatch.detect.discovery.asked import Asked
from stillwatch.detect.discovery.blocks import Block
from stillwatch.detect.profiles.profile import Profiles

_CONFIG = DetectConfig(null_groups=150)
_N = 24


def _asked(profiles: Profiles) -> Asked:
    return Asked(profiles, Registry(profiles).parties)


@pytest.fixture(scope="module")
def honest() -> Neighbourhoods:
    """Three hundred people, in clubs of twenty with a wording each."""
    rng = np.random.default_rng(9)
    people = [
        question
        for club in range(15)
        for question in askers(rng, range(20 * club, 20 * club + 20), [club, club + 50], own=0.3)
    ]
    profiles = profiles_of(people)
    return Neighbourhoods(_asked(profiles), profiles, _CONFIG)


def _judge(questions: list[Question], honest: Neighbourhoods) -> Judged:
    profiles = profiles_of(questions)
    accounts = np.arange(profiles.n_accounts)
    rows = np.arange(len(questions))
    registry = Registry(profiles)
    block = Block(np.array([0]), accounts, rows, registry.parties.count(accounts))
    return judge(_asked(profiles), block, honest=honest, registry=registry, config=_CONFIG)


def _workers(seed: int = 0, **how: float) -> list[Question]:
    return askers(np.random.default_rng(seed), range(_N), [900], **how)


def test_workers_are_told_from_people(honest) -> None:
    """A queue's workers get a low p-value, people with a wording in common none."""
    web, club = _judge(_workers(), honest), _judge(_workers(own=0.3), honest)
    assert web.p_value <= 1 / len(web.tested.null)
    assert 1.0 == club.p_value
    assert club.tested.ratio > 2.5
    assert "themselves" in club.reason


def test_declared_parties_are_never_a_web(honest) -> None:
    """Interchangeable workers of one organisation are its own affair."""
    judged = _judge([replace(one, org=7) for one in _workers()], honest)
    assert judged.tested is None
    assert 1.0 == judged.p_value
    assert "organisation" in judged.reason


def test_a_class_is_no_queue(honest) -> None:
    """Members who all ask the same questions are not tested."""
    sheet = [replace(one, text=i % 20, lines=[i % 20]) for i, one in enumerate(_workers())]
    judged = _judge(sheet, honest)
    assert judged.tested is None
    assert 1.0 == judged.revisited
    assert 1.0 == judged.p_value


def test_the_held_back_half_decides(honest) -> None:
    """What found a group is not what ranks it: words of the finding half change no p-value."""
    others = _workers(5)
    mixed = [
        one if one.confirms else replace(one, words=other.words)
        for one, other in zip(_workers(), others, strict=True)
    ]
    before, after = _judge(_workers(), honest), _judge(mixed, honest)
    assert before.p_value == after.p_value
    assert before.tested.upper == after.tested.upper
    assert before.tested.whole != after.tested.whole


def test_the_whole_group_may_veto(honest) -> None:
    """People in the finding half stop a group, however alike its other half looks."""
    people = _workers(own=0.6)
    mixed = [
        one if one.confirms else replace(one, words=other.words)
        for one, other in zip(_workers(), people, strict=True)
    ]
    judged = _judge(mixed, honest)
    assert judged.tested.p_value < 0.05
    assert judged.tested.whole.ratio > 2.5
    assert 1.0 == judged.p_value


def test_a_young_group_is_judged_on_all_it_has(honest) -> None:
    """With too few questions to halve, those that found a group must do; with one each, nothing."""
    young = [replace(one, confirms=False) for one in _workers(n_questions=6)]
    assert _judge(young, honest).tested is not None
    one_each = [replace(one, confirms=False) for one in _workers(n_questions=1)]
    judged = _judge(one_each, honest)
    assert judged.tested is None
    assert "too few" in judged.reason


def test_repeaters_leave_before_the_test() -> None:
    """Who mostly asks what most others ask leaves; the rest of the group stays as it was."""
    common = [
        Question(account, [1], [account], lines=[i]) for account in range(8) for i in range(6)
    ]
    own = [Question(account, [1], [account]) for account in range(8, 20) for _ in range(6)]
    profiles = profiles_of(common + own)
    rows = np.arange(len(profiles.digests.account))
    block = Block(np.array([0]), np.arange(20), rows, 20)
    left = drop_repeaters(_asked(profiles), block)
    assert list(range(8, 20)) == left.accounts.tolist()
    assert set(range(8, 20)) == set(profiles.digests.account[left.rows].tolist())


@pytest.mark.parametrize(("own", "expected"), [(0.0, True), (0.3, False)])
def test_who_may_not_serve_as_reference(own: float, expected: bool) -> None:
    """Without a reference, groups that might be webs are kept out of it, people are not."""
    profiles = profiles_of(_workers(own=own))
    rows = np.arange(len(profiles.digests.account))
    block = Block(np.array([0]), np.arange(_N), rows, _N)
    assert expected == might_be_web(_asked(profiles), block, _CONFIG)
    assert not might_be_web(_asked(profiles), block._replace(accounts=np.arange(5)), _CONFIG)


#: Digest 1000 f + a is account a's in family f.
_ACCOUNT = np.arange(3000) % 1000


def _named(accounts: range, p_value: float, family: int = 0) -> Judged:
    members = np.array(accounts)
    block = Block(np.array([family]), members, 1000 * family + members, len(members))
    return Judged(block, tested=None, revisited=0.1, p_value=p_value, reason="")


def _parties(n: int = 1000) -> Parties:
    """Accounts 2 i and 2 i + 1 are one party."""
    return Parties(np.arange(n) // 2, n // 2, np.ones(n, dtype=bool))


def test_overlapping_groups_are_one_campaign() -> None:
    """Groups that share half of the smaller one's accounts unite, at p times their number."""
    united = unite(
        [_named(range(40), 0.004, 0), _named(range(30, 50), 0.001, 1)], _parties(), _ACCOUNT
    )
    assert 1 == len(united)
    assert pytest.approx(0.002) == united[0].p_value
    block = united[0].block
    assert list(range(50)) == block.accounts.tolist()
    assert 60 == len(block.rows)
    assert [0, 1] == block.families.tolist()
    assert 25 == block.n_principals


def test_chains_unite() -> None:
    """A group that shares members with two others makes them one, of three p-values the least."""
    groups = [
        _named(range(20), 0.003, 0), _named(range(40, 60), 0.4, 1), _named(range(10, 50), 0.002, 2),
    ]  # fmt: skip
    united = unite(groups, _parties(), _ACCOUNT)
    assert [list(range(60))] == [one.block.accounts.tolist() for one in united]
    assert pytest.approx(0.006) == united[0].p_value


def test_disjoint_groups_stay_apart() -> None:
    """Groups that share less than half stay as they are."""
    groups = [_named(range(40), 0.001, 0), _named(range(35, 60), 0.002, 1)]
    united = unite(groups, _parties(), _ACCOUNT)
    assert [g.block.accounts.tolist() for g in groups] == [
        one.block.accounts.tolist() for one in united
    ]
    assert [0.001, 0.002] == [one.p_value for one in united]
    assert [] == unite([], _parties(), _ACCOUNT)


def test_a_united_p_value_is_at_most_one() -> None:
    """Times their number, but no probability above one."""
    assert (
        1.0 == unite([_named(range(9), 0.7, i) for i in range(3)], _parties(), _ACCOUNT)[0].p_value
    )
