"""CPU time that a policy of 50 rules takes for one request.

The rules alone on the facts of one request that no rule is about (the case of nearly every
request), the same for an account that asked before on that day, on one that meets rules, on one of
which nothing is known; and everything that the gateway does for the policy, from the account's row
to the tags of the record. CPU time of this process, the median of several rounds: wall times on a
shared machine are noise.

    python bench/guard_policy.py [--rules 50] [--rounds 15] [--requests 20000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stillwatch.guard.policy.apply import decide_by_policy
from stillwatch.guard.policy.document import load_policy
from stillwatch.guard.policy.engine import Engine
from stillwatch.guard.policy.facts import Asking, FactSource, capabilities
from stillwatch.guard.policy.live import LivePolicy, Settings
from stillwatch.guard.policy.vocabulary import NOTHING
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.wall.decide import ALLOWED, Decision
from stillwatch.record.privacy import KeyedHash

NOW = 1_800_000_000.0
_HEAD = """
[lists.closed]
path = "closed.txt"
kind = "countries"
max_age_days = 30000

[tiers]
frontier = ["house-large*"]
small = ["*"]
"""
#: Conditions of one to three questions, over the whole vocabulary; each rule takes the next.
_CONDITIONS = (
    ('org_country = { in = "@closed" }', 'org_country = "XA"', 'org_country = "DE"'),
    ('owners = { in = "@closed", above = 0.5 }', "owners = { XA = 0.6 }", "owners = { DE = 1.0 }"),
    ('billing_country = { in = "@closed" }', 'billing_country = "XB"', 'billing_country = "DE"'),
    ('kyc_level = { below = 3 }\nmodel_tier = "frontier"',
     'kyc_level = 1, model_tier = "frontier"', "kyc_level = 4"),
    ("reseller_depth = { above = 2 }\nkyc_level = { below = 4 }",
     "reseller_depth = 3, kyc_level = 0", "reseller_depth = 0"),
    ('list_hits = { any = ["sanctions"] }',
     "list_hits = { sanctions = 2026-11-01 }", "list_hits = {}"),
    ('account_age_days = { below = 7 }\nasks = { any = ["logprobs", "reasoning"] }',
     'account_age_days = 1, asks = ["logprobs"]', "account_age_days = 90"),
    ('asks = { any = ["many"] }\nplan = "free"\nmodel_tier = "frontier"',
     'asks = ["many"], plan = "free", model_tier = "frontier"', "asks = []"),
    ("questions_per_day = { above = 2e9 }", "questions_per_day = 3e9",
     "questions_per_day = 9"),
    ("risk = { above = 6 }\nin_campaign = true", "risk = 9, in_campaign = true", "risk = 0"),
)  # fmt: skip


def write_policy(folder: Path, n_rules: int) -> Path:
    """Write a policy whose rules go over the whole vocabulary.

    Args:
        folder: where to.
        n_rules: rules (count).

    Returns:
        The file.
    """
    (folder / "closed.txt").write_text("# date: 2026-11-01\nXA\nXB\nXC\n")
    parts = [_HEAD]
    for n in range(n_rules):
        condition, fires, passes = _CONDITIONS[n % len(_CONDITIONS)]
        kind = "legal" if n % len(_CONDITIONS) < 3 else "abuse"
        parts.append(
            f'[[rules]]\nid = "rule-{n}"\nkind = "{kind}"\nowner = "trust"\nreason = "bench"\n'
            f'action = "block"\nshadow = false\nfrom = 2026-01-01\nreview_by = 2027-01-01\n'
            f"tests = [{{ facts = {{ {fires} }}, fires = true }},"
            f" {{ facts = {{ {passes} }}, fires = false }}]\n[rules.when]\n{condition}\n"
        )
    path = folder / "policy.toml"
    path.write_text("\n".join(parts))
    return path


def cpu_us(work: Callable[[], object], *, rounds: int, requests: int) -> float:
    """Time one call.

    Args:
        work: what to time.
        rounds: rounds, of which the median counts.
        requests: calls a round.

    Returns:
        CPU microseconds a call, without the loop's own.
    """
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(requests):
            work()
        found.append((time.process_time() - begun) / requests * 1e6)
    return statistics.median(found)


def main() -> None:
    """Time, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_policy(folder, asked.rules)
        accounts = folder / "accounts.csv"
        accounts.write_text(
            "account,billing_country,kyc_level,created_at,plan,tags\n"
            "ann,DE,4,1700000000,pro,org_country=DE;owners=DE:1.0;list_hits=none\n"
            "eve,XA,1,1700000000,free,org_country=XA;owners=XA:1.0;list_hits=none\n"
        )
        live = LivePolicy(Settings(path, accounts, KeyedHash(b"b" * 32)), Metrics())
        for title, us in measure(live, rounds=asked.rounds, requests=asked.requests):
            print(f"{title:<58} {us:7.2f} us")


def measure(live: LivePolicy, *, rounds: int, requests: int) -> list[tuple[str, float]]:
    """Time a policy.

    Args:
        live: with the accounts `ann` (no rule is about her) and `eve` (some are).
        rounds: rounds, of which the median counts.
        requests: calls a round.

    Returns:
        (title, CPU microseconds a request).
    """
    parameters = {"temperature": 0.7, "max_tokens": 512}
    engine = Engine(load_policy(live.engine.policy.path))
    source = FactSource(engine.policy, live._accounts)
    asks = capabilities(parameters)
    honest = Asking("ann", None, "house-large-2", asks, "192.0.2.1")
    other = honest._replace(account="eve")
    facts, theirs = (source.facts(asking, NOW) for asking in (honest, other))
    nothing = list(NOTHING)

    def whole() -> Decision:
        asking = Asking("ann", None, "house-large-2", capabilities(parameters), "192.0.2.1")
        return decide_by_policy(live, asking, NOW, ladder=lambda: ALLOWED)

    n = len(engine.policy.rules)
    assert not engine.firing(facts, NOW)
    assert engine.firing(theirs, NOW)
    works: list[tuple[str, Callable[[], object]]] = [
        (f"{n} rules, facts of one request, none fires", lambda: engine.judge(facts, NOW)),
        (f"{n} rules, of an account that asked before today",
         lambda: engine.judge(facts, NOW, remember=True)),
        (f"{n} rules, {len(engine.firing(theirs, NOW))} fire",
         lambda: engine.judge(theirs, NOW)),
        (f"{n} rules, nothing known, {len(engine.firing(nothing, NOW))} fail closed",
         lambda: engine.judge(nothing, NOW)),
        ("gathering the facts", lambda: source.facts(honest, NOW)),
        ("everything for an account that asked before today", whole),
    ]  # fmt: skip
    return [(title, cpu_us(work, rounds=rounds, requests=requests)) for title, work in works]


if __name__ == "__main__":
    main()
