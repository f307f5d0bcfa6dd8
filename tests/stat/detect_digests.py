"""Profiles made by hand: the wording, the words and the half of every exchange are the test's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stillwatch.detect.profiles.profile import Digests, Profiles, no_totals
from stillwatch.text.ragged import Ragged, starts_of


@dataclass(frozen=True)
class Question:
    """One exchange as a digest keeps it; `text` None is a text of its own."""

    account: int
    shingles: Sequence[int] = ()
    words: Sequence[int] = ()
    lines: Sequence[int] | None = None
    text: int | None = None
    confirms: bool = False
    org: int = 0


def ragged(rows: Iterable[Sequence[int]]) -> Ragged:
    """Lay rows of 32-bit hashes end to end."""
    rows = [np.unique(np.asarray(row, dtype=np.uint32)) for row in rows]
    values = np.concatenate([np.empty(0, np.uint32), *rows])
    return Ragged(values, starts_of(np.array([len(row) for row in rows], dtype=np.int64)))


def profiles_of(questions: Sequence[Question], n_accounts: int | None = None) -> Profiles:
    """Profile a log; digests stand in order of account, then of the list."""
    questions = sorted(questions, key=lambda one: one.account)
    n = len(questions)
    account = np.array([one.account for one in questions], dtype=np.int64)
    n_accounts = int(account.max(initial=-1)) + 1 if n_accounts is None else n_accounts
    place = np.arange(n)
    none = np.zeros(n, dtype=np.uint64)
    text = [1_000_000 + i if one.text is None else one.text for i, one in enumerate(questions)]
    lines = [(text[i],) if one.lines is None else one.lines for i, one in enumerate(questions)]
    digests = Digests(
        account=account,
        key=(2 * place + np.array([one.confirms for one in questions])).astype(np.uint64),
        started_at=place.astype(np.float64),
        output_tokens=np.full(n, 10),
        text=np.array(text, dtype=np.uint64),
        system=none, setup=none, tools=none, network=none, agent=none,
        org=np.array([one.org for one in questions], dtype=np.uint64),
        exchange_id=pa.array([f"x{i}" for i in place], pa.large_string()),
        excerpt=pa.array([""] * n, pa.large_string()),
        shingles=ragged(one.shingles for one in questions),
        words=ragged(one.words for one in questions),
        lines=ragged(lines),
        n_asked=np.array([len(set(one.shingles)) for one in questions], dtype=np.int16),
    )  # fmt: skip
    asked = np.bincount(account, minlength=n_accounts)
    totals = no_totals(n_accounts)._replace(exchanges=asked, output_tokens=10 * asked)
    names = pa.array([f"a{i:04d}" for i in range(n_accounts)], pa.large_string())
    return Profiles(names, totals, digests)


def askers(
    rng: np.random.Generator,
    accounts: Iterable[int],
    wording: Sequence[int],
    *,
    own: float = 0.0,
    n_questions: int = 20,
) -> list[Question]:
    """Let accounts ask in a shared wording; `own` is the share of words from one's own dozen.

    The other words come from a pool so wide that most are used twice in all: by whom is chance.
    """
    accounts = list(accounts)
    n_words = 8
    pool = len(accounts) * n_questions * n_words // 2
    asked = []
    for account in accounts:
        mine = 10_000_000 + 100 * account + rng.integers(0, 12, (n_questions, n_words))
        any_ = 20_000_000 + rng.integers(0, pool, (n_questions, n_words))
        words = np.where(rng.random((n_questions, n_words)) < own, mine, any_)
        asked += [
            Question(account, wording, row.tolist(), confirms=bool(i % 2))
            for i, row in enumerate(words)
        ]
    return asked
