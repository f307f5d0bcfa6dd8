"""CPU time of one decision on each rung of the ladder, of stripping a body, of reading a token.

CPU time of this process, the median of several rounds: wall times on a shared machine are noise.

    python bench/guard_decide.py [--rounds 15] [--times 20000]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from stillwatch.guard.config import Secrets
from stillwatch.guard.wall.challenge import issue_token, read_token
from stillwatch.guard.wall.decide import Decision, decide
from stillwatch.guard.wall.ladder import DAY_S, Ladder, LadderRule, Rung, TokenBuckets
from stillwatch.guard.wall.orders import Order
from stillwatch.guard.wall.signing import signed_orders
from stillwatch.guard.wall.strip import stripped
from stillwatch.guard.wall.verdict import Board, CampaignVerdict, Verdict

NOW = 1_800_000_000.0
SECRET = b"s" * 32
RUNGS = (
    Rung("log_full", after_s=1 * DAY_S),
    Rung("strip", after_s=2 * DAY_S),
    Rung("throttle", after_s=3 * DAY_S, limit_per_day=1e9),
    Rung("challenge", after_s=4 * DAY_S),
    Rung("watermark", after_s=5 * DAY_S),
    Rung("canary", after_s=6 * DAY_S),
    Rung("block", after_s=7 * DAY_S),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--times", type=int, default=20_000)
    options = parser.parse_args()
    for name, work, share in _works():
        times = max(1, int(options.times * share))
        print(f"{name:34} {_cost_us(work, options.rounds, times):7.2f} us")


def _works() -> list[tuple[str, Callable[[], object], float]]:
    campaign = CampaignVerdict("web-1", since=NOW, renewed_at=NOW, mark_key_id="k")
    verdicts = {f"a{n}": Verdict(f"a{n}", campaign, NOW, NOW + 90 * DAY_S) for n in range(1000)}
    board, buckets = Board(1, verdicts), TokenBuckets()
    pinned = replace(board, orders={"web-1": (Order("web-1", "pin", "strip"),)})
    ladder = Ladder((LadderRule("*", RUNGS),), "enforce")

    def on(account: str, day: float, seen: Board = board) -> Callable[[], Decision]:
        now = NOW + day * DAY_S
        return lambda: decide(account, "m", now, board=seen, ladder=ladder, buckets=buckets)

    works: list[tuple[str, Callable[[], object], float]] = [("decide: no verdict", on("x", 0), 1.0)]
    works += [(f"decide: {rung.action}", on("a1", rung.after_s / DAY_S), 1.0) for rung in RUNGS]
    works.append(("decide: pinned", on("a1", 0, pinned), 1.0))
    for size in (1_200, 34_000):
        body = _body(size)
        works.append((
            f"strip: {size:,} bytes",
            partial(stripped, "openai.chat", body),
            0.1,
        ))
    secrets = Secrets(hash_key=SECRET, mark_secret=SECRET, mark_master_key=SECRET)
    both = Decision("canary", "web-1", mark_key_id="k", effects=frozenset({"watermark", "canary"}))
    body = _body(1_200)
    works.append((
        "orders: mark and canary",
        lambda: signed_orders(secrets, both, body, issued_at=NOW),
        0.1,
    ))
    token = issue_token(SECRET, "a1", now=NOW)
    works.append(("token: read", lambda: read_token(SECRET, token), 0.1))
    return works


def _body(size: int) -> bytes:
    content = "w" * size
    body = {
        "model": "m",
        "n": 4,
        "logprobs": True,
        "messages": [{"role": "user", "content": content}],
    }
    return json.dumps(body).encode()


def _cost_us(work: Callable[[], object], rounds: int, times: int) -> float:
    costs = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            work()
        costs.append((time.process_time() - began) / times * 1e6)
    return statistics.median(costs)


if __name__ == "__main__":
    main()
