"""When accounts ask: from traces of real clients, with hours of one's own, sessions and pauses."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400.0
_WINDOW_S = 3_600.0
#: A gap longer than this opens a new session.
SESSION_GAP_S = 1_800.0
#: Requests a client must have made in its fortnight to lend its pattern (count).
_LEAST_REQUESTS = 200.0


class Arrivals(NamedTuple):
    """Patterns to draw times from.

    Attributes:
        weights: share of its requests that a real client makes in each hour of its trace, shape
            (n_clients, n_hours); the trace starts on a Monday for all we know.
        gaps: gaps between questions of one sitting (seconds), sorted.
        outputs: output tokens of real answers (count), sorted.
    """

    weights: Floats
    gaps: Floats
    outputs: Ints


@functools.lru_cache(maxsize=2)
def load_arrivals(folder: Path | None) -> Arrivals:
    """Read the traces, or make some up.

    Args:
        folder: holds servegen/, azure_llm_2023/ and mooncake/; None makes arrivals up.

    Returns:
        The patterns.
    """
    if folder is None:
        return _made_up()
    table = pa_csv.read_csv(folder / "servegen" / "clients.csv.gz").select([
        "category", "client", "window_start_s", "rate_per_s",
    ])  # fmt: skip
    names = pc.binary_join_element_wise(
        table["category"], pc.cast(table["client"], pa.string()), "/"
    )
    client = names.combine_chunks().dictionary_encode().indices.to_numpy()
    hour = table["window_start_s"].to_numpy() // int(_WINDOW_S)
    counts = np.zeros((int(client.max()) + 1, int(hour.max()) + 1))
    np.add.at(counts, (client, hour), table["rate_per_s"].to_numpy() * 600.0)
    busy = counts[counts.sum(axis=1) >= _LEAST_REQUESTS]
    weights = busy / busy.sum(axis=1, keepdims=True)
    return Arrivals(weights, *_conversation(folder))


def _conversation(folder: Path) -> tuple[Floats, Ints]:
    """Gaps of one sitting from traces of prefix blocks, answer lengths from a token trace.

    A request that begins with all the blocks of an earlier one goes on with its conversation.
    """
    last: dict[int, tuple[int, int]] = {}
    gaps: list[float] = []
    outputs: list[int] = []
    for line in (folder / "mooncake" / "conversation_trace.jsonl").read_text().splitlines():
        row = json.loads(line)
        blocks, now = row["hash_ids"], row["timestamp"]
        outputs.append(row["output_length"])
        # The first block is a system prompt that all share; block 1 on belongs to a conversation.
        if len(blocks) > 2:
            place = blocks[1]
            if place in last and last[place][1] < len(blocks):
                gaps.append((now - last[place][0]) / 1000.0)
            last[place] = (now, len(blocks))
    azure = pa_csv.read_csv(folder / "azure_llm_2023" / "AzureLLMInferenceTrace_conv.csv")
    tokens = np.concatenate([azure["GeneratedTokens"].to_numpy(), np.array(outputs)])
    kept = np.array([gap for gap in gaps if 1.0 < gap < SESSION_GAP_S])
    return np.sort(kept), np.sort(tokens.astype(np.int64))


def _made_up() -> Arrivals:
    rng = np.random.default_rng(1)
    hours = np.arange(14 * 24)
    weights = np.exp(
        np.cos((hours[None] - rng.uniform(0, 24, (40, 1))) * np.pi / 12)
        * rng.uniform(0, 1, (40, 1))
    ) * rng.gamma(1.0, 1.0, (40, len(hours)))
    gaps = np.sort(rng.lognormal(4.3, 1.0, 500).clip(1.0, SESSION_GAP_S))
    outputs = np.sort(rng.lognormal(5.2, 0.9, 2_000).astype(np.int64) + 1)
    return Arrivals(weights / weights.sum(axis=1, keepdims=True), gaps, outputs)


class Rhythm(NamedTuple):
    """How one account's questions lie in time.

    Attributes:
        client: the real client whose ups and downs it follows (row of `Arrivals.weights`).
        hour: its own best hour, UTC (0..24).
        focus: how much it keeps to that hour; 0 not at all, 2 hardly ever at night.
        sitting: questions of one sitting, on average.
        evenness: how much of the client's ups and downs is smoothed away (0..1).
    """

    client: int
    hour: float
    focus: float
    sitting: float
    evenness: float


def draw_rhythm(arrivals: Arrivals, rng: np.random.Generator, *, human: bool = True) -> Rhythm:
    """Draw a rhythm.

    Args:
        arrivals: the patterns.
        rng: draws it.
        human: people sleep and ask in sittings; programs need not.

    Returns:
        The rhythm.
    """
    # People sit in a few populous zones: two humps over the UTC day rather than an even spread.
    hour = rng.normal(9.0, 3.5) if rng.random() < 0.55 else rng.normal(19.0, 4.0)
    return Rhythm(
        client=int(rng.integers(len(arrivals.weights))),
        hour=float(hour % 24.0),
        focus=float(rng.gamma(4.0, 0.4)) if human else float(rng.gamma(1.0, 0.4)),
        sitting=float(1.0 + rng.gamma(1.5, 1.3)) if human else float(1.0 + rng.gamma(1.0, 6.0)),
        # Half of the traced clients do most of their asking on two or three days; accounts that
        # are programs follow them, and people more evenly.
        evenness=float(rng.beta(2.0, 1.0) if human else rng.beta(1.0, 2.0)),
    )


def draw_times(
    arrivals: Arrivals,
    rhythm: Rhythm,
    rng: np.random.Generator,
    *,
    n: int,
    span: tuple[float, float],
) -> Floats:
    """Draw the times of an account's questions.

    Args:
        arrivals: the patterns.
        rhythm: of the account.
        rng: draws the times.
        n: questions (count).
        span: first and last moment (UTC epoch seconds).

    Returns:
        Ascending, shape (n,).
    """
    begin, end = span
    if n == 0:
        return np.zeros(0)
    n_hours = max(1, int(np.ceil((end - begin) / _WINDOW_S)))
    first = int(begin // _WINDOW_S)
    hours = first + np.arange(n_hours)
    trace = arrivals.weights[rhythm.client]
    own = np.exp(rhythm.focus * (np.cos((hours % 24 + 0.5 - rhythm.hour) * np.pi / 12) - 1.0))
    weight = (trace[hours % len(trace)] + (rhythm.evenness + 1e-3) / len(trace)) * own
    edges = np.cumsum(weight)
    n_sittings = max(1, round(n / rhythm.sitting))
    place = np.searchsorted(edges, rng.random(n_sittings) * edges[-1], side="right")
    starts = begin + (np.minimum(place, n_hours - 1) + rng.random(n_sittings)) * _WINDOW_S
    sitting = np.sort(rng.integers(n_sittings, size=n))
    gaps = arrivals.gaps[rng.integers(len(arrivals.gaps), size=n)]
    run = np.cumsum(gaps)
    is_first = np.r_[True, sitting[1:] != sitting[:-1]]
    offset = run - np.repeat(run[is_first], np.diff(np.r_[np.flatnonzero(is_first), n]))
    times = starts[sitting] + offset
    # What runs past the end is asked somewhere inside instead, so that the last moment is no heap.
    late = times >= end
    times[late] = begin + rng.random(int(late.sum())) * (end - begin)
    return np.sort(times)


def draw_pauses(rng: np.random.Generator, span: tuple[float, float], *, n: int) -> Floats:
    """Draw when a queue stands still.

    Args:
        rng: draws the pauses.
        span: first and last moment.
        n: pauses (count).

    Returns:
        Begin and end of each, shape (n, 2); of four to twelve hours.
    """
    begin, end = span
    starts = rng.uniform(begin, max(begin, end - 0.5 * DAY_S), size=n)
    return np.stack([starts, starts + rng.uniform(4.0, 12.0, size=n) * 3600.0], axis=1)


def leave_pauses(times: Floats, pauses: Floats, rng: np.random.Generator) -> Floats:
    """Move what falls into a pause to the hours after it.

    Args:
        times: shape (n,).
        pauses: shape (m, 2).
        rng: spreads what is moved.

    Returns:
        In the order given, shape (n,).
    """
    moved = times.copy()
    for begin, end in pauses:
        inside = (moved >= begin) & (moved < end)
        moved[inside] = end + rng.exponential(2.0 * 3600.0, size=int(inside.sum()))
    return moved
