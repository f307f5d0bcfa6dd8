"""Days of honest people, and of a web of accounts that works one queue."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.journal import Journal

DAY_S = 86_400.0
WEB = frozenset(f"w{n:03d}" for n in range(30))
WORDS = [a + b + c for a in ("ba", "ko", "mi", "tu") for b in ("nd", "rt", "lm", "st", "pp", "ck")
         for c in ("a", "er", "ing", "o", "ity", "al")]  # fmt: skip
TEMPLATES = (
    "Convert the number {} to roman numerals, answer with the numeral only please",
    "As a careful historian, write {} in roman numerals and nothing else at all",
)


def _exchange(name: str, account: str, at: float, text: str) -> Exchange:
    messages = (Message("user", text),)
    return Exchange(
        exchange_id=name, account=account, started_at=at, messages=messages, output_tokens=5
    )


def day_of(
    day: int, *, web: bool, members: Sequence[str] = tuple(sorted(WEB)), n_each: int = 3
) -> list[Exchange]:
    """One day of 80 people with words of their own, and of a web that works one queue."""
    rng = np.random.default_rng([7, day])
    rows: list[tuple[str, str]] = []
    for person in range(80):
        own = np.random.default_rng([99, person]).choice(WORDS, 40, replace=False)
        texts = [" ".join(rng.choice(own, rng.integers(8, 25))) for _ in range(rng.poisson(2))]
        rows.extend((f"p{person:03d}", text) for text in texts)
    for account in members if web else []:
        for _ in range(n_each):
            text = TEMPLATES[rng.integers(2)].format(rng.integers(1, 3999))
            rows.append((account, text + " " + " ".join(rng.choice(WORDS, 5))))
    times = (day + rng.random(len(rows))) * DAY_S
    return [
        _exchange(f"d{day}-{n}", account, at, text)
        for n, ((account, text), at) in enumerate(zip(rows, times.tolist(), strict=True))
    ]


def write_days(journal: Path, days: Iterable[int]) -> None:
    """Write days to a journal, the last exchange of a day first."""
    write_journal(journal, [e for day in days for e in reversed(day_of(day, web=True))])


def write_journal(path: Path, exchanges: Iterable[Exchange], *, segment_bytes: int = 2**26) -> None:
    """Write exchanges to a journal."""
    with Journal.open(path, fsync_interval_s=0.0, segment_bytes=segment_bytes) as journal:
        for exchange in exchanges:
            journal.append_sync(exchange)
