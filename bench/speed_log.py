"""Event-shaped logs for the speed bench: distinct questions of 1.2 KB, a web among persons.

Text is made from numbers: question j of an account is always the same, no two (account, j) are
alike, and a person keeps its topics, its own words and its way to begin. The web draws its items
from one queue and wraps them in templates. Nothing here is tuned on, and detect reads none of it
but the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.record.batches import with_column, write_batches
from stillwatch.record.exchange import ARROW_SCHEMA
from stillwatch.text.runs import compiled

DAYS = 45
_START = 1_764_547_200.0  # 2025-12-01
_COMMON, _TOPICS, _TOPIC_WORDS, _VOCABULARY = 512, 600, 128, 40_000
_ROWS = 16_384
_HARVEST_TOPICS = 40  # the queue's items are about these
_APPS, _TEMPLATES = 800, 24  # applications with a system prompt of their own; the web's wrappers
_MODELS = ("large-4", "large-4-fast", "small-2")
_PARAMETERS = ("{}", '{"temperature":0.7}', '{"temperature":0}', '{"max_tokens":1024}')
_AGENTS = tuple(f"client-{a}/{b}" for a in ("py", "js", "go", "rs") for b in ("1.9", "2.0", "2.1"))


@dataclass(frozen=True)
class LogShape:
    """How large a log is.

    Attributes:
        exchanges: of all accounts (count).
        honest: honest accounts (count).
        campaign: accounts of the web (count).
        share: of the exchanges that the web asks.
        cover: of the web's exchanges that are ordinary questions.
        seed: of everything.
    """

    exchanges: int
    honest: int
    campaign: int
    share: float = 0.1
    cover: float = 0.1
    seed: int = 0


#: The event: 28.8 million exchanges, 25,000 accounts among ten times as many honest ones.
EVENT = LogShape(28_800_000, 250_000, 25_000)


def scaled(exchanges: int) -> LogShape:
    """Shrink the event.

    Args:
        exchanges: wanted (count).

    Returns:
        A log of the event's proportions.
    """
    part = exchanges / EVENT.exchanges
    return LogShape(exchanges, round(EVENT.honest * part), max(30, round(EVENT.campaign * part)))


def write_log(folder: Path, shape: LogShape) -> None:
    """Write a store.

    Args:
        folder: the store; made if absent.
        shape: its size.
    """
    log = _Log(shape)
    for day in range(DAYS):
        write_batches(folder, log.day(day), name=f"part-{day + 1:06d}")


def is_campaign(account: str) -> bool:
    """Tell the truth about an account.

    Args:
        account: as in the log.

    Returns:
        Whether it is one of the web's: its number, scrambled in the id, is that of one.
    """
    return int(account[5:], 16) * _INVERSE % 2**40 >= 2**39


_FACTOR = 0x9E3779B97F | 1
_INVERSE = pow(_FACTOR, -1, 2**40)


class _Tables(NamedTuple):
    """What texts are made from."""

    words: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    topics: NDArray[np.int32]
    common: NDArray[np.int32]
    shared: NDArray[np.uint8]
    ends: NDArray[np.int64]


class _Rows(NamedTuple):
    """Which texts to make."""

    who: NDArray[np.int64]
    item: NDArray[np.int64]
    harvest: NDArray[np.bool_]
    app: NDArray[np.int64]
    wanted: NDArray[np.int64]


class _Log:
    def __init__(self, shape: LogShape) -> None:
        self.shape = shape
        rng = np.random.default_rng([shape.seed, 1])
        self.tables = _tables(rng)
        n = shape.honest + shape.campaign
        # The high half of the numbers is the web's; scrambled, so that ids do not show it.
        number = np.arange(shape.honest).tolist() + [2**39 + i for i in range(shape.campaign)]
        self.names = pa.array([f"acct-{i * _FACTOR % 2**40:010x}" for i in number])
        self.activity = rng.lognormal(0.0, 1.1, shape.honest).cumsum()
        self.hour = rng.uniform(0.0, 24.0, n)
        app = np.minimum(rng.zipf(1.3, n) - 1, 10**6)
        self.app = np.where(rng.random(n) < 0.35, app % _APPS, -1)
        self.facts = {
            "model": (_MODELS, rng.integers(len(_MODELS), size=n)),
            "parameters": (_PARAMETERS, rng.integers(len(_PARAMETERS), size=n)),
            "user_agent": (_AGENTS, rng.integers(len(_AGENTS), size=n)),
        }
        self.network = rng.integers(n, size=n)
        self.asked = 0

    def day(self, day: int) -> Iterator[pa.RecordBatch]:
        shape = self.shape
        total = shape.exchanges * (day + 1) // DAYS - shape.exchanges * day // DAYS
        rng = np.random.default_rng([shape.seed, 2, day])
        n_web = round(shape.share * total)
        who = np.searchsorted(
            self.activity, rng.random(total - n_web) * self.activity[-1], side="right"
        )
        web = shape.honest + rng.integers(shape.campaign, size=n_web)
        who = np.concatenate((who, web))
        harvest = np.concatenate((np.zeros(total - n_web, bool), rng.random(n_web) >= shape.cover))
        clock = (self.hour[who] + rng.normal(0.0, 3.0, total)) % 24.0
        order = np.argsort(clock, kind="stable")
        for at in range(0, total, _ROWS):
            rows = order[at : at + _ROWS]
            times = pa.array(_START + day * 86_400 + clock[rows] * 3_600.0)
            batch = self._batch(who[rows], harvest[rows], rng)
            yield with_column(batch, "started_at", times)

    def _batch(
        self, who: NDArray[np.int64], harvest: NDArray[np.bool_], rng: np.random.Generator
    ) -> pa.RecordBatch:
        n = len(who)
        serial = np.arange(self.asked, self.asked + n)
        self.asked += n
        # One question in twenty was asked before by the same person.
        old = (rng.random(n) < 0.05) & ~harvest
        item = np.where(old, rng.integers(8, size=n), serial + 8)
        app = np.where(harvest, -1, self.app[who])
        rows = _Rows(who, item, harvest, app, rng.integers(900, 1500, size=n))
        data = np.empty(int(rows.wanted.sum()) + 1_400 * n, np.uint8)
        offsets = np.zeros(2 * n + 1, np.int64)
        data = data[: _write(self.tables, rows, (data, offsets))]
        messages, size = _messages(data, offsets, app >= 0)
        columns: dict[str, Any] = {
            "exchange_id": _ids(serial),
            "account": self.names.take(pa.array(who)),
            "messages": messages,
            "network_hash": _named("n", self.network[who]),
            "org": _named("o", who),
            "input_tokens": pa.array(size // 4),
            "output_tokens": pa.array(rng.lognormal(5.5, 0.7, n).astype(np.int64)),
            "status": pa.array(np.where(rng.random(n) < 0.01, 429, 200).astype(np.int32)),
            "action": pa.repeat("allow", n),
            "wire": pa.repeat("openai.chat", n),
        }
        for name, (values, number) in self.facts.items():
            columns[name] = pa.array(values).take(pa.array(number[who]))
        return pa.RecordBatch.from_arrays(
            [columns.get(f.name, pa.nulls(n, f.type)) for f in ARROW_SCHEMA], schema=ARROW_SCHEMA
        )


def _ids(serial: NDArray[np.int64]) -> pa.Array:
    scrambled = (serial.astype(np.uint64) * np.uint64(0xD1342543DE82EF95)) ^ np.uint64(0x5DEECE66D)
    return _hex("x", scrambled)


def _named(letter: str, number: NDArray[np.int64]) -> pa.Array:
    return _hex(letter, number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _hex(letter: str, values: NDArray[np.uint64]) -> pa.Array:
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    shifts = np.arange(60, -4, -4).astype(np.uint64)
    text = np.empty((len(values), 17), np.uint8)
    text[:, 0] = ord(letter)
    text[:, 1:] = digits[((values[:, None] >> shifts) & np.uint64(15)).astype(np.int64)]
    offsets = np.arange(0, 17 * (len(values) + 1), 17, dtype=np.int32)
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(text))


def _messages(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], has_system: NDArray[np.bool_]
) -> tuple[pa.Array, NDArray[np.int64]]:
    n = len(has_system)
    turns = 1 + has_system.astype(np.int64)
    starts = np.concatenate(([0], np.cumsum(turns)))
    roles = np.ones(starts[-1], np.int8)
    roles[starts[:-1][has_system]] = 0
    # A row without a system prompt has an empty text there, which is left out.
    kept = np.ones(2 * n, bool)
    kept[0::2] = has_system
    ends = np.concatenate(([0], offsets[1:][kept]))
    content = pa.StringArray.from_buffers(
        int(starts[-1]), pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(data)
    )
    role = pa.array(("system", "user")).take(pa.array(roles))
    kind = ARROW_SCHEMA.field("messages").type
    struct = pa.StructArray.from_arrays(
        [role, content, pa.nulls(int(starts[-1]), pa.string())], fields=list(kind.value_type)
    )
    lists = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), struct, type=kind)
    return lists, offsets[2::2] - offsets[0:-2:2]


def _vocabulary(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
    words: dict[str, None] = {}
    while len(words) < _VOCABULARY:
        few = 1 + int(rng.integers(2)) if len(words) < _COMMON else 2 + int(rng.integers(3))
        word = (
            "".join(
                consonants[int(rng.integers(18))] + vowels[int(rng.integers(5))] for _ in range(few)
            )
            + ("", "n", "s", "r")[int(rng.integers(4))]
        )
        words.setdefault(word)
    table = np.zeros((_VOCABULARY, 12), np.uint8)
    for i, word in enumerate(words):
        table[i, : len(word)] = np.frombuffer(word.encode(), np.uint8)
    return table, (table > 0).sum(axis=1)


def _tables(rng: np.random.Generator) -> _Tables:
    words, lengths = _vocabulary(rng)
    often = 1.0 / (np.arange(_COMMON) + 8.0)  # as ranks of English words fall, roughly
    common = rng.choice(_COMMON, 4096, p=often / often.sum()).astype(np.int32)
    texts = []  # that many share: system prompts, and how templates open and close
    for n_words in [60] * _APPS + [36] * (2 * _TEMPLATES):
        rare = rng.integers(_VOCABULARY, size=n_words)
        rows = np.where(rng.random(n_words) < 0.5, common[rng.integers(4096, size=n_words)], rare)
        texts.append(b" ".join(words[r, : lengths[r]].tobytes() for r in rows) + b".\n")
    return _Tables(
        words,
        lengths,
        rng.integers(_COMMON, _VOCABULARY, (_TOPICS, _TOPIC_WORDS)).astype(np.int32),
        common,
        np.frombuffer(b"".join(texts), np.uint8),
        np.concatenate(([0], np.cumsum([len(text) for text in texts]))),
    )


@compiled
def _next(state: Any) -> Any:
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    return state ^ (state << np.uint64(17))


@compiled
def _copied(data: Any, at: Any, text: Any) -> Any:
    for i in range(len(text)):
        data[at + i] = text[i]
    return at + len(text)


@compiled
def _word(tables: Any, self: Any, draw: Any) -> Any:
    """Choose a word: half common, the rest the topic's, of which a person has some of its own."""
    row, n_topics = self
    kind, draw = draw & np.uint64(255), draw >> np.uint64(9)
    if kind < 128:
        return tables.common[draw & np.uint64(4095)]
    topic = tables.topics[(row >> np.uint64(8 * (draw & np.uint64(1)))) % n_topics]
    if kind < 200:
        return topic[(draw >> np.uint64(8)) & np.uint64(127)]
    return topic[(row ^ ((draw >> np.uint64(8)) & np.uint64(15)) * np.uint64(77)) & np.uint64(127)]


@compiled
def _body(tables: Any, span: Any, self: Any) -> Any:
    """Write words until a text is long enough; give where it ends."""
    data, at, end = span
    row, n_topics, state, opening = self
    n = 0
    while at < end:
        state = _next(state)
        word = _word(tables, (row, n_topics), state)
        if n < opening:  # the way this person begins
            topic = tables.topics[row % np.uint64(600)]
            word = topic[(row >> np.uint64(7 * n)) & np.uint64(127)]
        for j in range(12):  # all twelve, which is faster than looking where the word ends
            data[at + j] = tables.words[word, j]
        at += tables.lengths[word]
        n += 1
        if n % 13 == 0:
            data[at] = 46
            at += 1
        data[at] = 10 if n % 65 == 0 else 32
        at += 1
    return at


@compiled
def _write(tables: Any, rows: Any, out: Any) -> Any:
    data, offsets = out
    starts, ends, at = tables.ends[:-1], tables.ends[1:], 0
    for i in range(len(rows.who)):
        # A person's own number chooses topics and habits; in the web the item's does.
        harvest = rows.harvest[i]
        owner = rows.item[i] if harvest else rows.who[i]
        row = _next(_next((np.uint64(owner) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)))
        state = row ^ (np.uint64(rows.item[i]) + np.uint64(1)) * np.uint64(0xD1342543DE82EF95)
        state = _next(_next(state))
        template = _APPS + 2 * ((state >> np.uint64(20)) % np.uint64(_TEMPLATES))
        if rows.app[i] >= 0:
            at = _copied(data, at, tables.shared[starts[rows.app[i]] : ends[rows.app[i]]])
        offsets[2 * i + 1] = at
        end = at + rows.wanted[i]
        if harvest:
            at = _copied(data, at, tables.shared[starts[template] : ends[template]])
            end -= 200
        opening = 0 if harvest or state & np.uint64(1) else 6
        n_topics = np.uint64(_HARVEST_TOPICS if harvest else _TOPICS)
        at = _body(tables, (data, at, end), (row, n_topics, state, opening))
        if harvest:
            at = _copied(data, at, tables.shared[starts[template + 1] : ends[template + 1]])
        offsets[2 * i + 2] = at
    return at
