"""Families of wording: those of people are left out, those of interchangeable users stay."""

import numpy as np
import pytest
from detect_digests import Question, askers, profiles_of
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.interchange import confirms, measure_families
from stillwatch.detect.confirmation.principals import parties_of
from stillwatch.detect.discovery.clusters import lead
from stillwatch.detect.discovery.traits import Families, find_families, spread_of
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.text.ragged import starts_of

_QUEUE, _CLUB = list(range(100, 110)), list(range(200, 210))
_SLICE = list(range(300, 304))


def _find(
    questions: list[Question], reference: Profiles | None = None
) -> tuple[Profiles, Families]:
    profiles = profiles_of(questions)
    known = None
    if reference is not None:
        known = spread_of(reference.digests, n_accounts=reference.n_accounts)
    config = DetectConfig(widest_share=1.0)
    return profiles, find_families(profiles, parties_of(profiles), known, config=config)


def _users(found: tuple[Profiles, Families], shingle: int) -> set[int]:
    """Accounts of the exchanges that belong to the family of a shingle."""
    profiles, families = found
    home = families.shingles.rows[families.shingles.values == shingle]
    mine = np.isin(families.of_digest, home)
    return set(profiles.digests.account[mine].tolist())


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _lead(sets: list[set[int]], least: float) -> list[int]:
    values = np.array([value for one in sets for value in sorted(one)], dtype=np.int64)
    starts = starts_of(np.array([len(one) for one in sets], dtype=np.int64))
    return lead(values, starts, n_members=20, least=least).tolist()


def test_a_set_joins_the_leader_it_is_most_alike() -> None:
    """A set joins its nearest leader from the least likeness on, and else leads."""
    sets = [{0, 1, 2, 3, 4, 5}, {4, 5, 6, 7, 8}, {4, 6, 7, 8}, {0, 1, 2}, {0, 1}, {9}]
    assert [0, 1, 1, 0, 2, 3] == _lead(sets, 0.5)


@given(
    st.lists(st.sets(st.integers(0, 19), min_size=1, max_size=8), max_size=12),
    st.sampled_from([0.3, 0.5, 1.0]),
)
def test_leaders_are_what_plain_sets_give(sets: list[set[int]], least: float) -> None:
    """The compiled loop agrees with Jaccard similarity written out; of equals the first leads."""
    sets = sorted(sets, key=len, reverse=True)
    leaders: list[set[int]] = []
    expected = []
    for one in sets:
        alike = [len(one & other) / len(one | other) for other in leaders]
        best = int(np.argmax(alike)) if alike else -1
        if best < 0 or alike[best] < least:
            best = len(leaders)
            leaders.append(one)
        expected.append(best)
    assert expected == _lead(sets, least)


def test_peoples_wording_is_left_out() -> None:
    """Of two templates in one log, the one whose users are themselves is no family."""
    people = askers(_rng(), range(30), _CLUB, own=0.4)
    workers = askers(_rng(1), range(30, 60), _QUEUE)
    found = _find(people + workers)
    assert 1 == found[1].n_families
    assert set(range(30, 60)) == _users(found, _QUEUE[0])
    assert set() == _users(found, _CLUB[0])


def test_wording_that_the_reference_knows_is_everybodys() -> None:
    """A template in common use among honest accounts founds no family."""
    workers = askers(_rng(1), range(30), _QUEUE)
    reference = profiles_of([Question(i, _QUEUE) for i in range(40)])
    assert 0 == _find(workers, reference)[1].n_families
    rare = profiles_of([Question(i, _QUEUE if i == 0 else [i]) for i in range(40)])
    families = _find(workers, rare)[1]
    assert 1 == families.n_families
    assert [1] == families.elsewhere.tolist()


def test_an_exchange_goes_to_the_most_interchangeable_family() -> None:
    """What carries two wordings belongs to the one whose users are the more interchangeable."""
    both = sorted(_QUEUE + _CLUB)
    workers = askers(_rng(), range(20), _QUEUE) + askers(_rng(1), range(20, 30), both)
    half_alike = askers(_rng(2), range(30, 40), _CLUB, own=0.03)
    profiles, families = found = _find(workers + half_alike)
    digests = profiles.digests
    first = ~confirms(digests.key)
    upper = [
        measure_families(np.where(mine & first, 0, -1), digests.account, digests.words).upper[0]
        for mine in (digests.account < 30, digests.account >= 20)
    ]
    assert upper[0] < upper[1]
    assert set(range(30)) == _users(found, _QUEUE[0])
    assert set(range(30, 40)) == _users(found, _CLUB[0])
    assert not np.any(families.of_digest < 0)


def test_a_slice_of_peoples_wording_is_left_out() -> None:
    """A few people's variant of a people's template is too little to judge, and goes with it."""
    people = askers(_rng(), range(36), _CLUB, own=0.4)
    some = askers(_rng(1), range(36, 44), _CLUB + _SLICE, own=0.4, n_questions=2)
    digests = profiles_of(some).digests
    group = np.where(confirms(digests.key), -1, 0)
    alone = measure_families(group, digests.account, digests.words)
    assert [False, False] == [alone.is_personal(2.5)[0], alone.is_alike(2.5)[0]]
    assert 0 == _find(people + some)[1].n_families


def test_a_slice_that_proves_itself_stays() -> None:
    """A queue that borrows a people's template is found by what it adds."""
    people = askers(_rng(), range(60), _CLUB, own=0.4)
    workers = askers(_rng(1), range(60, 80), _CLUB + _SLICE)
    found = _find(people + workers)
    assert set(range(60, 80)) == _users(found, _SLICE[0])
    assert set() == _users(found, _CLUB[0])


@pytest.mark.parametrize("declared", [True, False])
def test_one_declared_party_is_one_asker(declared: bool) -> None:
    """Accounts that share their words are a queue, unless they say that they are three firms."""
    rng, questions = _rng(), []
    for account in range(24):
        firm = account // 8
        for i in range(12):
            words = 10_000 * (firm + 1) + rng.integers(0, 400, 8)
            org = firm + 1 if declared else 0
            questions.append(
                Question(account, _QUEUE, words.tolist(), confirms=bool(i % 2), org=org)
            )
    assert (0 if declared else 24) == len(_users(_find(questions), _QUEUE[0]))


def test_asking_again_changes_nothing() -> None:
    """Accounts that send each question three times, word for word, make the same families."""
    workers = askers(_rng(), range(20), _QUEUE) + askers(_rng(1), range(20, 40), _CLUB, own=0.02)
    once = [
        Question(q.account, q.shingles, q.words, text=i, confirms=q.confirms)
        for i, q in enumerate(workers)
    ]
    thrice = [*once, *once, *once]
    assert _wording_by_text(_find(once)) == _wording_by_text(_find(thrice))


def _wording_by_text(found: tuple[Profiles, Families]) -> dict[int, tuple[int, ...]]:
    """The wording of the family that each question belongs to, however families are numbered."""
    profiles, families = found
    wording = [()] + [
        tuple(families.shingles.take(np.array([i])).values.tolist())
        for i in range(families.n_families)
    ]
    of_text: dict[int, tuple[int, ...]] = {}
    texts = profiles.digests.text.tolist()
    for text, family in zip(texts, families.of_digest.tolist(), strict=True):
        assert of_text.setdefault(text, wording[family + 1]) == wording[family + 1]
    return of_text


def test_a_log_without_shared_wording() -> None:
    """Nothing shared, no family; an empty log neither."""
    alone = [Question(i, [1000 + i], [i]) for i in range(20)]
    assert [-1] * 20 == _find(alone)[1].of_digest.tolist()
    assert 0 == _find([])[1].n_families
