"""The whole verdict, simulated: false accusations under the null, power against real ones.

Two suspects, two campaigns; for each a green-list key, tested closed (three looks) and open
(watched) on the same windows, and a canary draw (watched). Everything is looked at all the time.

    python bench/trace_verdict.py [--worlds 4000]
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from stillwatch.stats.evalues import bernoulli_log10_e
from stillwatch.stats.intervals import wilson
from stillwatch.stats.pvalues import binomial_upper_tail
from stillwatch.trace.preregister import AnalysisPlan, AuditPlan, PlannedTest
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.verdicts.verdict import decide

SUSPECTS, CAMPAIGNS = ("s", "t"), ("web-1", "web-2")
GAMMA, VARIANTS, WINDOWS, CANARIES = 0.25, 10, 1_000, 80
LOOKS = (300, 600, 1_000)


def planned(draws: tuple[str, ...]) -> AnalysisPlan:
    """Plan the tests of the named kinds of draw."""
    tests: list[PlannedTest] = []
    for web in CAMPAIGNS:
        if "key" in draws:
            key = f"key:{web}"
            tests.append(PlannedTest(test="closed", randomisation=key, claim=web, looks=3))
            tests.append(PlannedTest(test="open", randomisation=key, claim=web, looks=0))
        if "canary" in draws:
            draw = f"canary:{web}"
            tests.append(PlannedTest(test="canary", randomisation=draw, claim=web, looks=0))
    none = AuditPlan(innocents=0, decoys=0)
    return AnalysisPlan(title="bench", suspects=SUSPECTS, tests=tuple(tests), audit=none)


def watched(test: str, draw: str, hits: npt.NDArray[np.bool_]) -> Finding:
    """Watch a test to its end."""
    chance = GAMMA if draw.startswith("key") else 1 / VARIANTS
    running = bernoulli_log10_e(np.cumsum(hits), np.arange(1, len(hits) + 1), chance)
    return Finding(
        test=test,
        statistic=float(hits.sum()),
        e_log10=float(max(running.max(), 0.0)),
        randomisation=draw,
        n=len(hits),
        sequential=True,
    )


def world(
    rng: np.random.Generator, draws: tuple[str, ...], *, rate: float, adoption: float
) -> dict[str, list[Finding]]:
    """Draw all findings; suspect `s` learned from web-1 with these effects, nobody else did."""
    findings: dict[str, list[Finding]] = {}
    for suspect in SUSPECTS:
        rows: list[Finding] = []
        for web in CAMPAIGNS:
            guilty = (suspect, web) == ("s", "web-1")
            if "key" in draws:
                green = rng.random(WINDOWS) < (rate if guilty else GAMMA)
                rows += [closed(f"key:{web}", green[:size]) for size in LOOKS]
                rows.append(watched("open", f"key:{web}", green[::-1]))
            if "canary" in draws:
                share = adoption if guilty else 0.0
                hits = rng.random(CANARIES) < share + (1 - share) / VARIANTS
                rows.append(watched("canary", f"canary:{web}", hits))
        findings[suspect] = rows
    return findings


def closed(draw: str, green: npt.NDArray[np.bool_]) -> Finding:
    """Test a fixed number of windows."""
    tail = binomial_upper_tail(int(green.sum()), len(green), GAMMA)
    return Finding(
        test="closed",
        statistic=float(green.sum()),
        p_value=tail.p_value,
        log10_p=tail.log10_p,
        randomisation=draw,
        n=len(green),
    )


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4_000)
    worlds = parser.parse_args().worlds
    print(f"null, {worlds:,} worlds: any of four accusations with adjusted p at most")
    for draws in (("key",), ("canary",), ("key", "canary")):
        rng, plan = np.random.default_rng(1), planned(draws)
        verdicts = [decide(plan, world(rng, draws, rate=GAMMA, adoption=0)) for _ in range(worlds)]
        best = np.array([v.accusations[0].adjusted_log10_p for v in verdicts])
        shares = [f"{x:g}: {np.mean(best <= np.log10(x)):.4f}" for x in (0.1, 0.05, 0.01, 0.001)]
        e = 10.0 ** np.array([a.log10_e for v in verdicts for a in v.accusations])
        print(f"  {' + '.join(draws):13} {'  '.join(shares)}  mean evidence {e.mean():.3f}")
    n = worlds // 20
    print(f"power, {n:,} worlds a row: s proved at 1e-6 to have learned from web-1; others accused")
    for rate, adoption in ((0.29, 0.1), (0.31, 0.2), (0.33, 0.3), (0.37, 0.4)):
        cells = []
        for draws in (("key",), ("canary",), ("key", "canary")):
            rng, plan = np.random.default_rng(2), planned(draws)
            found = wrong = 0
            for _ in range(n):
                verdict = decide(plan, world(rng, draws, rate=rate, adoption=adoption))
                for one in verdict.accusations:
                    is_true = (one.suspect, one.claim) == ("s", "web-1")
                    found += is_true and one.level == "proved"
                    wrong += not is_true and one.level != "no finding"
            low, high = wilson(found, n)
            cells.append(
                f"{' + '.join(draws)} {found / n:.2f} ({low:.2f}-{high:.2f}), {wrong} wrong"
            )
        print(f"  green {rate}, adoption {adoption}: {'; '.join(cells)}")


if __name__ == "__main__":
    main()
