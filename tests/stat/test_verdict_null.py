"""The whole verdict under the null: no more false accusations than stated, however one looks."""

import numpy as np
import pytest

from stillwatch.stats.evalues import bernoulli_log10_e
from stillwatch.stats.pvalues import binomial_upper_tail
from stillwatch.trace.preregister import AnalysisPlan, AuditPlan, PlannedTest
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.verdicts.verdict import decide

SUSPECTS, CAMPAIGNS, GAMMA = ("s", "t"), ("web-1", "web-2"), 0.25
#: Windows at which the closed test is looked at.
SIZES = (100, 200, 300)
WORLDS = 120


def planned(draws):
    """A closed test with three looks and an open one watched, on one key; canaries watched."""
    tests = []
    for web in CAMPAIGNS:
        key, canary = f"key:{web}", f"canary:{web}"
        tests.append(PlannedTest(test="closed", randomisation=key, claim=web, looks=3))
        tests.append(PlannedTest(test="open", randomisation=key, claim=web, looks=0))
        if draws == 2:
            tests.append(PlannedTest(test="canary", randomisation=canary, claim=web, looks=0))
    return AnalysisPlan(
        title="null",
        suspects=SUSPECTS,
        tests=tuple(tests),
        proved=0.02,
        strong=0.1,
        audit=AuditPlan(innocents=0, decoys=0),
    )


def watched(test, draw, hits, chance):
    """The running maximum of a watched test, at its end."""
    seen = np.arange(1, len(hits) + 1)
    running = bernoulli_log10_e(np.cumsum(hits), seen, chance)
    return Finding(
        test=test,
        statistic=float(hits.sum()),
        e_log10=float(max(running.max(), 0.0)),
        randomisation=draw,
        n=len(hits),
        sequential=True,
    )


def world(rng, draws, learned=0.0):
    """Everything an analyst could report on two suspects; both tests of a key share its windows."""
    findings = {}
    for suspect in SUSPECTS:
        rows = []
        for web in CAMPAIGNS:
            green = rng.random(300) < GAMMA + learned * (1 - GAMMA)
            for size in SIZES:
                tail = binomial_upper_tail(int(green[:size].sum()), size, GAMMA)
                rows.append(
                    Finding(
                        test="closed",
                        statistic=float(green[:size].sum()),
                        p_value=tail.p_value,
                        log10_p=tail.log10_p,
                        randomisation=f"key:{web}",
                        n=size,
                    )
                )
            # The open test sees the same colours in another order: as dependent as can be.
            rows.append(watched("open", f"key:{web}", green[::-1], GAMMA))
            if draws == 2:
                hits = rng.random(60) < 0.1 + learned * 0.9
                rows.append(watched("canary", f"canary:{web}", hits, 0.1))
        findings[suspect] = rows
    return findings


@pytest.fixture(scope="module", params=[1, 2], ids=["one draw", "two draws"])
def innocent(request):
    """Verdicts on innocents, with all results reported and with the bad ones hidden."""
    rng, plan, verdicts = np.random.default_rng(41 + request.param), planned(request.param), []
    for _ in range(WORLDS):
        told = world(rng, request.param)
        chosen = {
            suspect: [one for one in rows if (one.e_log10 or -(one.log10_p or 0.0)) > 0.5]
            for suspect, rows in told.items()
        }
        verdicts.append((decide(plan, told), decide(plan, chosen)))
    return verdicts


def test_false_accusations_stay_below_the_stated_rate(innocent):
    """Four accusations, each watched all the time: any of them falls in at most 10 % of worlds."""
    best = np.array([all_told.accusations[0].adjusted_log10_p for all_told, _ in innocent])
    for rate in (0.02, 0.1):
        slack = 3 * np.sqrt(rate * (1 - rate) / WORLDS)
        assert np.mean(best <= np.log10(rate)) <= rate + slack
    assert np.mean(best <= np.log10(0.5)) > 0


def test_hiding_results_does_not_help(innocent):
    """An analyst who reports only what looks good gets no higher level for anybody."""
    for all_told, chosen in innocent:
        full = {(a.suspect, a.claim): a.log10_p for a in all_told.accusations}
        for one in chosen.accusations:
            assert one.log10_p >= full[one.suspect, one.claim] - 1e-9


def test_the_evidence_of_a_claim_is_at_most_one_on_average(innocent):
    """The final evidence, which is also its largest value ever, has expectation at most 1."""
    logs = [one.log10_e for verdict, _ in innocent for one in verdict.accusations]
    evidence = 10.0 ** np.array(logs)
    assert np.mean(evidence) <= 1 + 3 * np.std(evidence) / np.sqrt(len(evidence))


@pytest.mark.parametrize("draws", [1, 2])
def test_guilty_suspects_are_proved(draws):
    """A suspect that gives 30 % of what it was taught is proved far below 1e-6 in nine of ten."""
    rng = np.random.default_rng(59)
    plan = planned(draws)
    best = [decide(plan, world(rng, draws, 0.3)).of("s").adjusted_log10_p for _ in range(25)]
    assert np.quantile(best, 0.9) < -6
