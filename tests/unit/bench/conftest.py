"""The bench's own modules, and a log small enough to know by heart."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.record.exchange import Exchange, Message, to_batch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench"))

N_PEOPLE, N_WEB, EACH = 100, 20, 12
_WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("lo", "mi", "ra", "tu")]


def _log(rng, accounts, *, start, framed=frozenset()):
    rows = []
    for name, own in accounts:
        for number in range(EACH):
            words = rng.choice(own, 12).tolist()
            if name in framed:
                words = rng.choice(_WORDS[120:], 12).tolist()
                words = ["Solve", "this", "step", "by", "step", "and", "show", "all", *words]
            rows.append(
                Exchange(
                    exchange_id=f"{name}-{start:.0f}-{number}",
                    account=name,
                    started_at=start + float(rng.uniform(0, 86_400)),
                    model="m",
                    messages=(Message("user", " ".join(words)),),
                    network_hash="shared" if name in framed else f"net-{name}",
                    output_tokens=100 if name in framed else 10,
                )
            )
    return to_batch(rows)


@pytest.fixture(scope="session")
def log():
    """History and live batches, an accounts table, and the names of the web's accounts."""
    rng = np.random.default_rng(7)
    people = [(f"p{i:03d}", rng.choice(_WORDS[:120], 40, replace=False)) for i in range(N_PEOPLE)]
    web = [(f"w{i:02d}", _WORDS[120:]) for i in range(N_WEB)]
    names = frozenset(name for name, _ in web)
    history = [_log(rng, people, start=0.0)]
    live = [_log(rng, people, start=1e6), _log(rng, web, start=1e6, framed=names)]
    table = pa.table({
        "account": [name for name, _ in people + web],
        "payment_hash": [
            f"card-{name}" if name not in names else "one card" for name, _ in people + web
        ],
    })
    return live, history, table, names
