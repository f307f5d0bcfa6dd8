"""What the gateway and its learner hold in memory for a hundred thousand accounts."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from guardbench.process import cpu_s, family, rss_mb
from guardbench.subjects import ADMIN_TOKEN, GatewayPlan, start_gateway
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.record.journal import Journal
from stillwatch.record.segments import encode_line
from stillwatch.siege.processes import ProcessGroup

_DAY_S = 86_400.0
_WORDS = 20_000


@dataclass(frozen=True)
class Memory:
    """What two processes hold.

    Attributes:
        gateway_mb: the gateway (MiB).
        learner_mb: the learner (MiB).
        learn_cpu_s: the learner's processor time to read, fold and find (seconds).
        n_campaigns: found (count); the log holds none.
    """

    gateway_mb: float
    learner_mb: float
    learn_cpu_s: float
    n_campaigns: int


def write_log(folder: Path, *, n_accounts: int, each: int, seed: int = 5) -> None:
    """Write a journal of people with nothing in common.

    Args:
        folder: of the journal.
        n_accounts: with exchanges (count).
        each: exchanges of an account (count).
        seed: of the texts.
    """
    rng = random.Random(seed)
    words = [f"w{n:05d}" for n in range(_WORDS)]
    now = time.time() - 2 * _DAY_S
    with Journal.open(folder, fsync_interval_s=1.0) as journal:
        for n in range(n_accounts * each):
            account = n % n_accounts
            text = " ".join(rng.choices(words, k=40))
            while journal.queued_bytes > 2**25:
                time.sleep(0.01)
            journal.put(encode_line(Exchange(
                exchange_id=f"{n:012x}", account=f"account-{account}", started_at=now + 0.5 * n,
                ended_at=now + 0.5 * n + 2, model="m", messages=(Message("user", text),),
                answers=(Answer(" ".join(rng.choices(words, k=60)), "stop"),),
                output_tokens=80, ip_hash=f"{account:024x}", user_agent="bench",
            )))  # fmt: skip


def measure(processes: ProcessGroup, plan: GatewayPlan, *, each: int, name: str) -> Memory:
    """Start a gateway over a log, have it learn, and look at both processes.

    Args:
        processes: that it belongs to.
        plan: how to start it; its accounts fill the log.
        each: exchanges of an account (count).
        name: of the gateway's process.

    Returns:
        What they hold afterwards.
    """
    write_log(plan.folder / "state" / "journal", n_accounts=plan.n_accounts, each=each)
    gateway = start_gateway(processes, plan, name=name)
    assert gateway.pid is not None
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.target.port}/stillwatch/admin/learn",
        data=b"{}",
        headers={"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=900) as reply:  # noqa: S310 - loopback
        learned = json.load(reply)
    learner = max(family(gateway.pid)[1:], key=rss_mb)
    return Memory(
        rss_mb(gateway.pid), rss_mb(learner), cpu_s(learner), len(learned.get("campaigns", ()))
    )
