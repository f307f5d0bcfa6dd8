"""Canary plans and proofs: the numbers that a plan promises and a test returns."""

import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.stats.pvalues import binomial_upper_tail
from stillwatch.trace.canaries import proof
from stillwatch.trace.canaries.canary import Canary, draw_assignment, prior_shares

KEY = b"a key of this assignment"


def drawn(n, m=10):
    """An assignment of n canaries with m variants (m may be a list)."""
    sizes = m if isinstance(m, list) else [m] * n
    made = [
        Canary(f"c{i}", f"Question {i}?", tuple(f"name{i}x{j}" for j in range(size)))
        for i, size in enumerate(sizes)
    ]
    return draw_assignment(made, key=KEY)


def picks_with(assignment, n_matches):
    """Picks of which the first n_matches are the drawn variants."""
    return {
        c.canary_id: served if i < n_matches else (served + 1) % len(c.variants)
        for i, (c, served) in enumerate(zip(assignment.canaries, assignment.served, strict=True))
    }


def test_equal_canaries_give_the_binomial():
    """With equal canaries p is the exact binomial tail, and the details say what was counted."""
    assignment = drawn(100)
    found = proof.prove_canaries(assignment, picks_with(assignment, 35))
    assert pytest.approx(binomial_upper_tail(35, 100, 0.1).log10_p) == found.log10_p
    assert (35.0, 100, assignment.randomisation) == (
        found.statistic,
        found.n,
        found.randomisation,
    )
    assert 10.0 == pytest.approx(found.details["expected"])
    assert pytest.approx(0.25 / 0.9) == found.details["adoption"]
    assert found.e_log10 == pytest.approx(-found.log10_p - 2, abs=1.5)


def test_silence_and_void_canaries_do_not_count():
    """Canaries without a pick or with a bad record are left out and counted."""
    assignment = drawn(50)
    picks = picks_with(assignment, 20) | {"c0": None, "c49": None}
    found = proof.prove_canaries(assignment, picks, void=["c1", "c2"])
    assert (46, 17.0) == (found.n, found.statistic)
    assert (48, 2) == (found.details["asked"], found.details["void"])
    assert "2 of 48 canaries show no single variant" in found.notes


def test_no_picks_prove_nothing():
    """Without a single pick p is 1 and the evidence 1."""
    found = proof.prove_canaries(drawn(5), {})
    assert (1.0, 0.0, 0.0, 0) == (found.p_value, found.log10_p, found.e_log10, found.n)


def test_mixed_sizes_are_exact():
    """Canaries of several sizes: a match among many variants counts for more."""
    assignment = drawn(40, [2] * 20 + [20] * 20)
    few = proof.prove_canaries(assignment, picks_with(assignment, 20))
    backwards = {
        f"c{i}": assignment.served[i] if i >= 20 else 1 - assignment.served[i] for i in range(40)
    }
    many = proof.prove_canaries(assignment, backwards)
    assert many.log10_p < -18
    assert few.log10_p > -6
    assert few.statistic == many.statistic


def test_references_make_a_rare_variant_count_for_more():
    """A match on what everybody says counts less than one on what nobody says."""
    assignment = drawn(60, 4)
    made = assignment.canaries
    habit = {c.canary_id: i % 4 for i, c in enumerate(made)}
    priors = prior_shares(made, [habit] * 30)
    assert pytest.approx(30.5 / 32) == priors["c1"][1]
    rare = {
        c.canary_id: s if s != habit[c.canary_id] else (s + 1) % 4
        for c, s in zip(made, assignment.served, strict=True)
    }
    popular = habit
    plain = proof.prove_canaries(assignment, rare)
    informed = proof.prove_canaries(assignment, rare, priors=priors)
    assert informed.e_log10 > plain.e_log10
    assert abs(proof.prove_canaries(assignment, popular, priors=priors).e_log10) < 2
    assert informed.details["weighted_by_references"]


def test_watched_evidence_is_the_largest_so_far():
    """In sequence the finding gives the running maximum, at the end the last value."""
    assignment = drawn(100)
    picks = picks_with(assignment, 30)
    watched = proof.prove_canaries(assignment, picks, sequential=True)
    at_the_end = proof.prove_canaries(assignment, picks)
    assert watched.sequential
    assert not at_the_end.sequential
    assert watched.e_log10 > at_the_end.e_log10 + 2
    assert -watched.e_log10 == watched.log10_p
    assert 10.0**watched.log10_p == pytest.approx(watched.p_value)
    assert at_the_end.log10_p == pytest.approx(binomial_upper_tail(30, 100, 0.1).log10_p)


def test_plan_gives_the_smallest_number_that_stays():
    """From the planned number on the power never falls below what was asked."""
    plan = proof.plan_canaries(m=10, adoption=0.3)
    assert (79, 24) == (plan.n, plan.critical)
    assert plan.power == pytest.approx(0.911, abs=1e-3)
    later = [proof.plan_canaries(n, 10, adoption=0.3).power for n in range(plan.n, 200)]
    assert min(later) >= 0.9
    assert proof.plan_canaries(plan.n - 1, 10, adoption=0.3).power < 0.9
    assert (
        binomial_upper_tail(24, 79, 0.1).p_value <= 1e-6 < binomial_upper_tail(23, 79, 0.1).p_value
    )


def test_plan_reproduces_published_arithmetic():
    """Match rates of 0.3 among 10 and 0.6 among 2 first reach 90 % at 127 and 904 canaries."""
    for n, m, rate in ((127, 10, 0.3), (904, 2, 0.6)):
        adoption = (rate - 1 / m) / (1 - 1 / m)
        assert proof.plan_canaries(n, m, adoption=adoption).power >= 0.9
        assert proof.plan_canaries(n - 1, m, adoption=adoption).power < 0.9


def test_uncertain_adoption_needs_more():
    """Silence and an uncertain adoption both raise the number."""
    known = proof.plan_canaries(m=10, adoption=0.3).n
    silent = proof.plan_canaries(m=10, adoption=proof.Adoption(0.3, named=0.6)).n
    unsure = proof.plan_canaries(m=10, adoption=proof.Adoption(0.3, spread=0.1)).n
    assert known < silent
    assert known < unsure


def test_exposures_raise_adoption():
    """Two exposures are two chances; none is refused."""
    assert pytest.approx(0.51) == proof.Adoption(0.3, named=0.9).after(2).mean
    assert 0.9 == proof.Adoption(0.3, named=0.9).after(2).named
    with pytest.raises(InvalidInputError, match="exposures must be at least 1"):
        proof.Adoption(0.3).after(0)


def test_plan_is_noted_in_the_finding():
    """The finding says how many the plan needs, and when fewer were asked."""
    plan = proof.plan_canaries(m=10, adoption=0.3)
    assignment = drawn(40)
    found = proof.prove_canaries(assignment, picks_with(assignment, 4), plan=plan)
    assert 79 == found.needed
    assert "40 canaries asked, 79 planned: the power is below the plan's" in found.notes


def test_proof_refuses():
    """Impossible picks, priors and plans are refused."""
    assignment = drawn(2)
    with pytest.raises(InvalidInputError, match=r"c0 must be in 0\.\.9"):
        proof.prove_canaries(assignment, {"c0": 10})
    with pytest.raises(InvalidInputError, match="shares above 0"):
        proof.prove_canaries(assignment, {"c0": 1}, priors={"c0": [1.0] * 9})
    with pytest.raises(InvalidInputError, match="m must be at least 2"):
        proof.plan_canaries(m=1, adoption=0.3)
    with pytest.raises(InvalidInputError, match="alpha must be"):
        proof.plan_canaries(m=2, adoption=0.3, alpha=0.0)
    with pytest.raises(InvalidInputError, match="n must be at least 1"):
        proof.plan_canaries(0, 2, adoption=0.3)
    with pytest.raises(InvalidInputError, match="reachable"):
        proof.plan_canaries(m=2, adoption=0.001)
    with pytest.raises(InvalidInputError, match="mean must be"):
        proof.Adoption(0.0)
    with pytest.raises(InvalidInputError, match="named must be"):
        proof.Adoption(0.5, named=0.0)
    with pytest.raises(InvalidInputError, match="spread must be"):
        proof.Adoption(0.5, spread=0.6)
