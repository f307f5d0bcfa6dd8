"""The verdict: what is averaged, multiplied, corrected, capped and told."""

import math

import msgspec
import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.preregister import AnalysisPlan, AuditPlan, PlannedTest
from stillwatch.trace.verdicts import evidence
from stillwatch.trace.verdicts.audit import audit_decoys
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.verdicts.verdict import Verdict, decide, verdict_lines

CLOSED = PlannedTest(test="radioactivity-closed", randomisation="key:k1")
OPEN = PlannedTest(test="radioactivity-open", randomisation="key:k1")
CANARY = PlannedTest(test="canary", randomisation="canary:c1", looks=0, needed=79)
NO_AUDIT = AuditPlan(innocents=0, decoys=0)


def plan(*tests, **changes):
    """A plan about one suspect without an audit."""
    fields = {"title": "t", "suspects": ("s",), "tests": tests, "audit": NO_AUDIT, **changes}
    return AnalysisPlan(**fields)


def found(planned, log10_p, **changes):
    """A finding of a planned test with this p-value."""
    fields = {
        "test": planned.test,
        "statistic": 1.0,
        "p_value": 10.0**log10_p,
        "log10_p": log10_p,
        "randomisation": planned.randomisation,
        "n": 100,
        **changes,
    }
    return Finding(**fields)


def watched(log10_e, n=79):
    """A canary finding that may be looked at any time."""
    return found(CANARY, 0.0, e_log10=log10_e, sequential=True, n=n)


def test_one_test_on_one_draw_keeps_its_p_value():
    """Nothing is paid for combining what is not combined."""
    verdict = decide(plan(CLOSED), {"s": [found(CLOSED, -6.2)]})
    assert "proved" == verdict.level
    assert -6.2 == pytest.approx(verdict.of("s").adjusted_log10_p)


@pytest.mark.parametrize(
    ("log10_p", "level"),
    [(-6.0, "proved"), (-5.9, "strong"), (-3.0, "strong"), (-2.9, "no finding")],
)
def test_levels(log10_p, level):
    """Proved at 1e-6, strong at 1e-3, else no finding."""
    assert level == decide(plan(CLOSED), {"s": [found(CLOSED, log10_p)]}).level


def test_tests_of_one_draw_are_averaged():
    """Two tests that share a key share its stake: evidence is their mean, p twice the smaller."""
    one = decide(plan(CLOSED, OPEN), {"s": [found(CLOSED, -20.0), found(OPEN, -2.0)]}).of("s")
    assert pytest.approx(-20 + math.log10(2)) == one.log10_p
    alone = evidence.calibrated_log10_e(-20.0)
    assert pytest.approx(alone - math.log10(2), abs=1e-6) == one.log10_e


def test_a_planned_test_that_is_not_reported_counts_as_nothing():
    """Leaving a bad result out gains nothing."""
    both = decide(plan(CLOSED, OPEN), {"s": [found(CLOSED, -20.0), found(OPEN, 0.0)]}).of("s")
    hidden = decide(plan(CLOSED, OPEN), {"s": [found(CLOSED, -20.0)]}).of("s")
    assert hidden.log10_e <= both.log10_e
    assert hidden.log10_p >= both.log10_p
    assert ("radioactivity-open",) == hidden.channels[0].missing
    assert "key:k1: radioactivity-open planned and not reported" in hidden.notes


def test_draws_are_multiplied():
    """Evidence from a key and from canaries multiplies, half the stake of each at risk."""
    findings = {"s": [found(CLOSED, -8.0), watched(6.0)]}
    one = decide(plan(CLOSED, CANARY), findings).of("s")
    parts = [evidence.calibrated_log10_e(-8.0), evidence.calibrated_log10_e(-6.0)]
    assert pytest.approx(sum(parts) - 2 * math.log10(2), abs=1e-3) == one.log10_e
    assert pytest.approx(-one.log10_e) == one.log10_p
    assert "proved" == one.level


def test_a_draw_that_shows_nothing_costs_a_factor_of_two():
    """Canaries that were not adopted cannot bury what the key shows."""
    silent = decide(plan(CLOSED, CANARY), {"s": [found(CLOSED, -12.0), watched(-40.0)]}).of("s")
    absent = decide(plan(CLOSED, CANARY), {"s": [found(CLOSED, -12.0)]}).of("s")
    alone = evidence.calibrated_log10_e(-12.0)
    assert pytest.approx(alone - 2 * math.log10(2), abs=0.05) == silent.log10_e
    assert pytest.approx(alone - 2 * math.log10(2), abs=1e-6) == absent.log10_e


def test_evidence_never_falls():
    """A later look can only add: the verdict may be called at any time."""
    rng = np.random.default_rng(3)
    test = msgspec.structs.replace(CLOSED, looks=5)
    looks, best = [], []
    for log10_p in -3 * rng.random(5):
        looks += [found(test, float(log10_p)), watched(float(rng.normal(1, 1)))]
        best.append(decide(plan(test, CANARY), {"s": looks}).of("s").log10_p)
    assert sorted(best, reverse=True) == best


def test_planned_looks_share_the_stake():
    """Of k planned looks each has 1/k; one more than planned is refused."""
    test = msgspec.structs.replace(CLOSED, looks=4)
    one = decide(plan(test), {"s": [found(test, -1.0), found(test, -9.0)]}).of("s")
    assert pytest.approx(-9 + math.log10(4)) == one.log10_p
    with pytest.raises(InvalidInputError, match="number of looks must be at most the 4 planned"):
        decide(plan(test), {"s": [found(test, -1.0)] * 5})


def test_watching_needs_a_test_that_may_be_watched():
    """A fixed-size p-value cannot be looked at any time."""
    with pytest.raises(InvalidInputError, match="must be sequential"):
        decide(plan(CANARY), {"s": [found(CANARY, -9.0)]})


def test_a_watched_result_is_never_taken_at_its_fixed_size_p_value():
    """Even with looks planned, a watched test counts by its running maximum alone."""
    test = msgspec.structs.replace(CANARY, looks=1)
    looked = found(CANARY, -20.0, e_log10=4.0, sequential=True)
    assert -4.0 == decide(plan(test), {"s": [looked]}).of("s").log10_p


def test_all_accusations_share_the_error_rate():
    """Two suspects and 50 campaigns: the first p-value is multiplied by 100."""
    tests = [PlannedTest(test="r", randomisation=f"key:k{i}", claim=f"web-{i}") for i in range(50)]
    verdict = decide(
        plan(*tests, suspects=("s", "t")), {"t": [found(tests[7], -9.0), found(tests[8], -2.0)]}
    )
    first = verdict.accusations[0]
    assert ("t", "web-7", "proved") == (first.suspect, first.claim, first.level)
    assert pytest.approx(-7.0) == first.adjusted_log10_p
    assert {"no finding"} == {one.level for one in verdict.accusations[1:]}
    assert 100 == len(verdict.accusations)


def test_screening_controls_the_false_share():
    """By e-BH ten guilty suspects among twenty carry each other."""
    suspects = tuple(f"s{i}" for i in range(20))
    findings = {f"s{i}": [found(CLOSED, -5.6)] for i in range(10)}
    holm = decide(plan(CLOSED, suspects=suspects), findings)
    screened = decide(plan(CLOSED, suspects=suspects, correction="e-bh"), findings)
    assert -4.3 == pytest.approx(holm.of("s1").adjusted_log10_p, abs=0.05)
    e = evidence.calibrated_log10_e(-5.6)
    assert pytest.approx(math.log10(2) - e, abs=1e-6) == screened.of("s1").adjusted_log10_p
    assert 10 == sum(one.level == "strong" for one in screened.accusations)


def test_what_is_not_planned_is_not_counted():
    """A draw outside the plan is a lead; a suspect outside it is refused."""
    extra = found(PlannedTest(test="canary", randomisation="canary:late"), -30.0)
    verdict = decide(plan(CLOSED), {"s": [extra]})
    assert "no finding" == verdict.level
    assert {"s": (extra,)} == verdict.unplanned
    with pytest.raises(InvalidInputError, match="suspects that the plan names"):
        decide(plan(CLOSED), {"z": [found(CLOSED, -9.0)]})


def test_similarity_moves_nothing():
    """A finding without a draw of ours stands apart and changes no number."""
    alike = Finding(test="lineage", statistic=0.9, rank=(0, 19))
    same = Finding(
        test="equality", statistic=9, p_value=1e-9, log10_p=-9.0, randomisation="samples:s"
    )
    with_it = decide(plan(CLOSED), {"s": [found(CLOSED, -2.0), alike, same]})
    without = decide(plan(CLOSED), {"s": [found(CLOSED, -2.0)]})
    assert without.of("s").log10_p == with_it.of("s").log10_p
    assert {"s": (alike, same)} == with_it.similarity
    assert {} == with_it.unplanned


def uniform(n, seed=0):
    """Decoy p-values as they should be."""
    return np.log10(np.random.default_rng(seed).random(n))


def audited(**changes):
    """A plan with an audit, findings, innocents and decoys that pass it."""
    the_plan = plan(CLOSED, audit=AuditPlan(innocents=20, decoys=999))
    finding = found(CLOSED, -15.0)
    parts = {
        "innocents": {f"m{i}": [found(CLOSED, float(p))] for i, p in enumerate(uniform(20))},
        "decoys": [audit_decoys(finding, uniform(999), suspect="s")],
        **changes,
    }
    return decide(the_plan, {"s": [finding]}, **parts)


def test_a_complete_audit_lets_a_proof_stand():
    """With innocents and decoys in order the level is the number's, and the worst is told."""
    verdict = audited()
    assert "proved" == verdict.level
    assert () == verdict.audit.missing
    assert 0.001 == verdict.audit.decoys[0].rank_p
    assert verdict.audit.innocents.worst in {f"m{i}" for i in range(20)}
    assert -3 < verdict.audit.innocents.worst_log10_p < -0.3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"innocents": {}}, "0 of 20 innocent models tested"),
        ({"decoys": []}, "0 of 999 decoys tried for radioactivity-closed on key:k1 of s"),
        ({"innocents": {f"m{i}": [] for i in range(20)}}, "not every planned test was run on m0"),
    ],
)
def test_an_incomplete_audit_caps_the_level(changes, words):
    """Without the planned audit a proof is only strong, and says why."""
    verdict = audited(**changes)
    assert "strong" == verdict.level
    assert any(one.startswith(words) for one in verdict.audit.missing)
    assert "proved by its number, but the audit is not complete" in verdict.of("s").notes


def test_an_innocent_that_is_accused_stops_everything():
    """A pipeline that would accuse an innocent accuses nobody."""
    innocents = {f"m{i}": [found(CLOSED, -9.0 if i == 4 else -0.2)] for i in range(20)}
    verdict = audited(innocents=innocents)
    assert "no finding" == verdict.level
    assert "m4" == verdict.audit.innocents.worst
    assert any("m4, an innocent model" in line for line in verdict_lines(verdict))


def test_leaning_decoys_stop_everything():
    """Decoy draws that look guilty too often show that the p-values are none."""
    leaning = uniform(999) * 2.5
    verdict = audited(decoys=[audit_decoys(found(CLOSED, -15.0), leaning, suspect="s")])
    assert "no finding" == verdict.level
    assert not verdict.audit.passed
    assert "proved by its number, but the audit failed" in verdict.of("s").notes[0]


def test_decoys_need_a_p_value():
    """An audit without decoys, or of a finding without p, is refused."""
    with pytest.raises(InvalidInputError, match="at least one number"):
        audit_decoys(found(CLOSED, -1.0), [], suspect="s")
    with pytest.raises(InvalidInputError, match="one with a p-value"):
        audit_decoys(Finding(test="l", statistic=1), [-1.0], suspect="s")


def standings(verdict):
    """How each rival explanation stands."""
    return [rival.standing for rival in verdict.of("s").rivals]


def test_rivals_follow_from_the_evidence():
    """A found draw excludes chance and common causes; a campaign's own draw narrows the rest."""
    closed = msgspec.structs.replace(CLOSED, claim="web-7")
    opened = msgspec.structs.replace(OPEN, claim="web-7")
    findings = [found(closed, -30.0), found(opened, -30.0)]
    committed = {"commitments": {"key:k1": "00" * 32}}
    same = Finding(test="equality", statistic=0.0, rank=(1, 1))
    full = decide(plan(closed, opened, **committed), {"s": [*findings, same]})
    assert ["excluded", "excluded", "narrowed", "narrowed", "narrowed", "narrowed"] == standings(
        full
    )
    bare = decide(plan(CLOSED), {"s": [found(CLOSED, -30.0)]})
    assert ["excluded", "excluded", *["possible"] * 4] == standings(bare)
    none = decide(plan(CLOSED), {"s": [found(CLOSED, -1.0)]})
    assert ["possible"] * 6 == standings(none)


def test_power_is_told_where_it_was_missing():
    """No finding says how much was scored of what was planned, and that it is no acquittal."""
    one = decide(plan(CANARY), {"s": [watched(0.3, n=40)]}).of("s")
    assert "canary:c1: 40 of 79 planned units were scored" in one.notes
    assert "no finding is no acquittal: it says what these tests could see" in one.notes


def test_verdict_is_plain_data_and_words():
    """A verdict reads back from JSON, and its lines tell level, draws, rivals and audit."""
    verdict = audited()
    again = msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict)
    assert verdict == again
    lines = verdict_lines(again)
    assert "s learned from our answers: proved (log10 p -15.0 after correction" in lines[0]
    assert any("excluded: the same base model" in line for line in lines)
    assert any(line.startswith("audit: 20 innocent models, the worst m") for line in lines)
    assert any("999 decoys of radioactivity-closed on s" in line for line in lines)


def test_nothing_reported_is_no_finding():
    """Before the first answer the verdict says so."""
    for the_plan in (plan(CLOSED), plan(CLOSED, CANARY), plan(CLOSED, correction="e-bh")):
        one = decide(the_plan, {}).of("s")
        assert ("no finding", 0.0) == (one.level, one.adjusted_log10_p)
