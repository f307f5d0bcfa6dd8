"""From a plan (who asks when) to Arrow batches of the store's schema, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.record.exchange import ARROW_SCHEMA
from stillwatch.siege.traffic.cast import Member
from stillwatch.siege.traffic.persons import HARVEST, Asked
from stillwatch.siege.traffic.seats import Seat
from stillwatch.siege.traffic.times import Arrivals, Floats, Ints

#: Rows of a batch.
BATCH = 8_192
#: Model that comes out in the course of a pivot.
NEW_MODEL = "atlas-next"
#: Share of the questions that the provider turns away.
_REFUSED = 0.008
_DRAWN = ("network_hash", "ip_hash", "user_agent", "parameters", "model", "key_hash")
_USUAL = {"wire": "openai.chat", "answers": [], "action": "allow", "origin": "", "tags": []}
_MESSAGES: pa.DataType = ARROW_SCHEMA.field("messages").type
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Plan(NamedTuple):
    """Who asks when; rows ascend in time.

    Attributes:
        member: place in the cast, shape (n,).
        at: UTC epoch seconds, shape (n,).
        kind: HONEST, HARVEST or COVER, shape (n,).
        sitting: number of the account's sitting, shape (n,).
        exchange_ids: unique, shape (n,).
    """

    member: Ints
    at: Floats
    kind: NDArray[np.int8]
    sitting: Ints
    exchange_ids: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.member)


def exchange_ids(seed: int, n: int) -> NDArray[np.str_]:
    """Make ids that tell nothing.

    Args:
        seed: of the log.
        n: ids (count).

    Returns:
        Distinct, shape (n,).
    """
    # splitmix64 of the row number: a bijection, so ids never collide.
    x = (np.arange(n, dtype=np.uint64) + np.uint64(seed % 2**31) * np.uint64(2**32)) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    digits = np.frombuffer(x.astype(">u8").tobytes().hex().encode(), dtype="S16")
    return np.char.add("x", digits.astype("U16"))


def write_rows(
    plan: Plan, cast: Sequence[Member], *, arrivals: Arrivals, rng: Random
) -> Iterator[pa.RecordBatch]:
    """Write a plan's exchanges; each member's asker writes its questions in the order of time.

    Args:
        plan: who asks when.
        cast: fresh members; their askers remember, so a second pass needs another cast.
        arrivals: lends the lengths of answers.
        rng: draws texts and what goes with them.

    Yields:
        Batches of `ARROW_SCHEMA`, without answers.
    """
    for start in range(0, len(plan), BATCH):
        rows = slice(start, min(start + BATCH, len(plan)))
        yield _batch(plan, cast, rows=rows, arrivals=arrivals, rng=rng)


def _batch(
    plan: Plan, cast: Sequence[Member], *, rows: slice, arrivals: Arrivals, rng: Random
) -> pa.RecordBatch:
    who = plan.member[rows].tolist()
    asked: list[Asked] = []
    drawn: dict[str, list[str | None]] = {name: [] for name in _DRAWN}
    outputs: list[int] = []
    streamed: list[bool] = []
    for place, now, kind in zip(who, plan.at[rows].tolist(), plan.kind[rows].tolist(), strict=True):
        member = cast[place]
        asked.append(member.asker.ask(rng, now, kind))
        _draw_client(member, now, rng, drawn=drawn)
        # Working that is written out takes somewhat longer answers than the usual question does.
        factor = member.seat.wordiness * (1.15 if kind == HARVEST else 1.0)
        length = arrivals.outputs[int(rng.random() * len(arrivals.outputs))]
        outputs.append(max(1, int(length * factor)))
        streamed.append(rng.random() < member.seat.streamed)
    waited = [0.25 + rng.expovariate(3.0) for _ in who]
    served = [rng.random() > _REFUSED for _ in who]
    seats = [cast[place].seat for place in who]
    columns: dict[str, pa.Array] = {
        "exchange_id": pa.array(plan.exchange_ids[rows].tolist(), pa.string()),
        "account": pa.array([seat.account for seat in seats], pa.string()),
        "messages": _messages(asked),
        "tools_hash": pa.array([seat.tools for seat in seats], pa.string()),
        "input_tokens": pa.array(_input_tokens(asked), pa.int64()),
        "streamed": pa.array(streamed, pa.bool_()),
        "org": pa.array([seat.row.org for seat in seats], pa.string()),
        "session": pa.array(_sessions(seats, plan.sitting[rows].tolist()), pa.string()),
        **_clock(plan.at[rows], np.array(waited), np.array(outputs), served=np.array(served)),
        **{name: pa.array(values, pa.string()) for name, values in drawn.items()},
    }
    columns["model_returned"] = columns["model"]
    return pa.RecordBatch.from_arrays(
        [columns[f.name] if f.name in columns else _usual(f, len(who)) for f in ARROW_SCHEMA],
        schema=ARROW_SCHEMA,
    )


def _usual(field: pa.Field, n: int) -> pa.Array:
    """Fill a column that is the same in every row."""
    if field.name in _USUAL:
        return pa.array([_USUAL[field.name]] * n, field.type)
    return pa.nulls(n, field.type)


def _clock(
    started: Floats, waited: Floats, outputs: Ints, *, served: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Give the times, the tokens and the status: a refused question has no answer to wait for."""
    first = started + waited
    return {
        "started_at": pa.array(started, pa.float64()),
        "first_output_at": pa.array(first, pa.float64(), mask=~served),
        "ended_at": pa.array(first + 0.018 * outputs * served, pa.float64()),
        "output_tokens": pa.array(outputs * served, pa.int64()),
        "status": pa.array(np.where(served, 200, 429), pa.int32()),
    }


def _draw_client(
    member: Member, now: float, rng: Random, *, drawn: dict[str, list[str | None]]
) -> None:
    seat = member.seat
    usual = seat.usual

    def one(values: tuple[str, ...]) -> str:
        if len(values) == 1 or rng.random() < usual:
            return values[0]
        return values[int(rng.random() * len(values))]

    network = one(seat.networks)
    drawn["network_hash"].append(network)
    # A handful of addresses behind a network, each account's own within it.
    drawn["ip_hash"].append(f"ip{network[3:]}{seat.account[-3:]}{int(rng.random() * 2)}")
    drawn["user_agent"].append(one(seat.agents))
    drawn["parameters"].append(one(seat.parameters))
    since, share = member.moves
    moved = now >= since and rng.random() < share
    drawn["model"].append(NEW_MODEL if moved else one(seat.models))
    drawn["key_hash"].append(one(seat.keys))


def _messages(asked: Sequence[Asked]) -> pa.Array:
    roles: list[str] = []
    contents: list[str] = []
    offsets = [0]
    for system, text in asked:
        if system:
            roles.append("system")
            contents.append(system)
        roles.append("user")
        contents.append(text)
        offsets.append(len(roles))
    turns = pa.StructArray.from_arrays(
        [
            pa.array(roles, pa.string()),
            pa.array(contents, pa.string()),
            pa.nulls(len(roles), pa.string()),
        ],
        fields=list(_MESSAGES.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), turns, type=_MESSAGES)


def _input_tokens(asked: Sequence[Asked]) -> NDArray[np.int64]:
    return np.array([7 + (len(a.system) + len(a.text)) * 10 // 43 for a in asked], dtype=np.int64)


def _sessions(seats: Sequence[Seat], sittings: Sequence[int]) -> list[str | None]:
    """Name the sitting, for the half of the clients that names any."""
    return [
        f"{seat.keys[0][-6:]}-{sitting}" if int(seat.keys[0][-1], 16) % 2 else None
        for seat, sitting in zip(seats, sittings, strict=True)
    ]
