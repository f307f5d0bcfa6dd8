"""Audit of a world: does any trivial field of an account give a campaign away?

`trivial_fields` computes simple figures of every account and, for each, the area under the ROC
curve of campaign accounts against honest ones. A field outside `BAND` tells a campaign without
looking at what is asked, so figures of a detector on that world would be worth little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import stats

from stillwatch.siege.traffic.scenarios import LIVE_FROM, Traffic
from stillwatch.siege.traffic.times import DAY_S, Floats, Ints

#: A field whose AUC leaves this band gives the campaign away.
BAND = (0.2, 0.8)
#: What E2 is about: below it, campaign accounts share networks and payments by definition.
SHARED_PLACES = (
    "accounts on the network", "accounts at the sign-up network", "accounts with the payment mark",
    "accounts with the e-mail domain", "distinct networks", "distinct addresses",
)  # fmt: skip
#: What E1 is about: below it, a campaign asks around the clock at an even pace.
EVEN_PACE = (
    "exchanges", "active days", "exchanges per active day", "hour, sine", "hour, cosine",
    "hour, concentration", "share at night", "share on weekends", "gap, median", "gap, shortest",
    "gap, longest", "gap, variation", "gap, share below a minute", "sittings per exchange",
    "first seen", "last seen", "days since it was opened",
)  # fmt: skip


class _Rows(NamedTuple):
    """The columns that fields are made of, one row an exchange, sorted by account, then time."""

    account: Ints
    at: Floats
    numbers: dict[str, Floats]
    codes: dict[str, Ints]


def trivial_fields(traffic: Traffic) -> dict[str, float]:
    """Compute the AUC of every trivial field, per account, on the live exchanges.

    Args:
        traffic: a scenario with a campaign.

    Returns:
        Field -> AUC of campaign over honest accounts (0..1; 0.5 tells nothing), the most telling
        first; NaN everywhere when there is no campaign.
    """
    names, rows = _read(traffic)
    fields = {**_of_times(rows), **_of_numbers(rows), **_of_codes(rows)}
    fields |= _of_table(traffic, names)
    members = traffic.truth.campaign_members()
    is_member = np.array([name in members for name in names])
    found = {field: _auc(values, is_member) for field, values in fields.items()}
    return dict(sorted(found.items(), key=lambda item: -abs(item[1] - 0.5)))


def telling_fields(fields: dict[str, float], evasion: str) -> dict[str, float]:
    """Keep the fields that tell too much.

    Args:
        fields: what `trivial_fields` gave.
        evasion: level of the campaign; what the level is about is not held against it.

    Returns:
        Field -> AUC outside `BAND`.
    """
    excused: tuple[str, ...] = ()
    if evasion in ("E0", "E1"):
        excused += SHARED_PLACES
    if evasion == "E0":
        excused += EVEN_PACE
    low, high = BAND
    return {
        field: auc
        for field, auc in fields.items()
        if field not in excused and not low <= auc <= high
    }


def _auc(values: Floats, is_member: NDArray[np.bool_]) -> float:
    known = np.isfinite(values)
    values, is_member = values[known], is_member[known]
    n, m = int(is_member.sum()), int((~is_member).sum())
    if not n or not m:
        return float("nan")
    ranks = stats.rankdata(values)
    return float((ranks[is_member].sum() - n * (n + 1) / 2) / (n * m))


_CODED = ("network_hash", "ip_hash", "user_agent", "model", "key_hash", "session", "parameters")


def _read(traffic: Traffic) -> tuple[list[str], _Rows]:
    names: dict[str, int] = {}
    books: dict[str, dict[str, int]] = {name: {} for name in (*_CODED, "question", "system")}
    account: list[NDArray[np.int64]] = []
    numbers: dict[str, list[Floats]] = {}
    codes: dict[str, list[Ints]] = {name: [] for name in books}
    for batch in traffic.batches():
        account.append(_coded(batch["account"], names))
        system, question = _turns(batch)
        for name in _CODED:
            codes[name].append(_coded(batch[name], books[name]))
        codes["question"].append(_coded(question, books["question"]))
        codes["system"].append(_coded(system, books["system"]))
        for name, values in _measured(batch, system, question).items():
            numbers.setdefault(name, []).append(values)
    who = np.concatenate(account)
    at = np.concatenate(numbers.pop("at"))
    order = np.lexsort((at, who))
    return list(names), _Rows(
        who[order],
        at[order],
        {name: np.concatenate(parts)[order] for name, parts in numbers.items()},
        {name: np.concatenate(parts)[order] for name, parts in codes.items()},
    )


def _coded(values: pa.Array, book: dict[str, int]) -> Ints:
    found = values.dictionary_encode()
    own = [-1 if v is None else book.setdefault(v, len(book)) for v in found.dictionary.to_pylist()]
    places = np.array([*own, -1], dtype=np.int64)
    at: Ints = places[found.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)]
    return at


def _turns(batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    messages = batch["messages"]
    ends = messages.offsets.to_numpy()
    turns = messages.values
    question = turns.field("content").take(pa.array(ends[1:] - 1))
    first = turns.take(pa.array(ends[:-1]))
    is_system = pc.equal(first.field("role"), "system")
    return pc.if_else(is_system, first.field("content"), ""), question


def _measured(batch: pa.RecordBatch, system: pa.Array, question: pa.Array) -> dict[str, Floats]:
    length = _floats(pc.utf8_length(question))
    said = _floats(pc.utf8_length(system))
    output, given = _floats(batch["output_tokens"]), _floats(batch["input_tokens"])
    parameters = batch["parameters"]

    def share(pattern: str) -> Floats:
        return _floats(pc.count_substring_regex(question, pattern)) / np.maximum(length, 1.0)

    def setting(name: str, default: float) -> Floats:
        found = pc.struct_field(
            pc.extract_regex(parameters, f'"{name}":(?P<value>[0-9.]+)'), "value"
        )
        return _floats(pc.fill_null(pc.cast(found, pa.float64()), default))

    return {
        "at": _floats(batch["started_at"]),
        "question, characters": length,
        "question, lines": _floats(pc.count_substring(question, "\n")),
        "question, digits": share("[0-9]"),
        "question, capitals": share("[A-Z]"),
        "question, marks": share("[?!.,:;]"),
        "no system prompt": (said == 0).astype(np.float64),
        "system prompt, characters": said,
        "input tokens": given,
        "output tokens": output,
        "output tokens per input token": output / np.maximum(given, 1.0),
        "seconds taken": _floats(batch["ended_at"]) - _floats(batch["started_at"]),
        "temperature": setting("temperature", 1.0),
        "max_tokens": setting("max_tokens", 0.0),
        "no parameters": _floats(pc.equal(parameters, "{}")),
        "streamed": _floats(batch["streamed"]),
        "refused": _floats(pc.not_equal(batch["status"], 200)),
        "tools": _floats(pc.is_valid(batch["tools_hash"])),
        "no session": _floats(pc.is_null(batch["session"])),
    }


def _floats(values: pa.Array) -> Floats:
    return np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _means(account: Ints, values: Floats) -> Floats:
    return np.asarray(np.bincount(account, values) / np.bincount(account))


def _of_times(rows: _Rows) -> dict[str, Floats]:
    account, at = rows.account, rows.at
    start = np.flatnonzero(np.r_[True, account[1:] != account[:-1]])
    n = np.bincount(account).astype(np.float64)
    day = (at // DAY_S).astype(np.int64)
    is_new_day = np.r_[True, (account[1:] != account[:-1]) | (day[1:] != day[:-1])]
    days = np.bincount(account, is_new_day)
    hour = at % DAY_S / 3600.0
    angle = np.exp(1j * hour * np.pi / 12.0)
    turn = np.bincount(account, angle.real) / n + 1j * np.bincount(account, angle.imag) / n
    gap = np.diff(at, append=at[-1])
    own = np.r_[account[1:] == account[:-1], False]
    gaps = [gap[a:b][own[a:b]] for a, b in zip(start, np.r_[start[1:], len(at)], strict=True)]
    several = [g if len(g) else np.array([np.nan]) for g in gaps]
    return {
        "exchanges": n,
        "active days": days,
        "exchanges per active day": n / days,
        "first seen": at[start],
        "last seen": at[np.r_[start[1:], len(at)] - 1],
        "hour, sine": turn.imag,
        "hour, cosine": turn.real,
        "hour, concentration": np.abs(turn),
        "share at night": _means(account, (hour < 6.0).astype(np.float64)),
        "share on weekends": _means(account, ((day + 3) % 7 >= 5).astype(np.float64)),
        "gap, median": np.array([np.median(g) for g in several]),
        "gap, shortest": np.array([g.min() for g in several]),
        "gap, longest": np.array([g.max() for g in several]),
        "gap, variation": np.array([g.std() / max(g.mean(), 1e-9) for g in several]),
        "gap, share below a minute": np.array([(g < 60.0).mean() for g in several]),
    }


def _of_numbers(rows: _Rows) -> dict[str, Floats]:
    account = rows.account
    start = np.flatnonzero(np.r_[True, account[1:] != account[:-1]])
    fields = {name: _means(account, values) for name, values in rows.numbers.items()}
    length = rows.numbers["question, characters"]
    mean = fields["question, characters"]
    fields["question, spread"] = np.sqrt(np.maximum(_means(account, length**2) - mean**2, 0.0))
    fields["question, shortest"] = np.minimum.reduceat(length, start)
    fields["question, longest"] = np.maximum.reduceat(length, start)
    fields["output tokens, most"] = np.maximum.reduceat(rows.numbers["output tokens"], start)
    return fields


def _of_codes(rows: _Rows) -> dict[str, Floats]:
    account = rows.account
    n = np.bincount(account).astype(np.float64)
    size = len(n)

    def pairs(name: str) -> tuple[Ints, Ints]:
        codes = rows.codes[name]
        pair = np.unique(account[codes >= 0] * np.int64(codes.max() + 2) + codes[codes >= 0])
        return pair // (codes.max() + 2), pair % (codes.max() + 2)

    def distinct(name: str) -> Floats:
        return np.bincount(pairs(name)[0], minlength=size).astype(np.float64)

    def company(name: str) -> Floats:
        """Accounts that share an account's most widely shared value."""
        who, code = pairs(name)
        most = np.zeros(size)
        np.maximum.at(most, who, np.bincount(code)[code].astype(np.float64))
        return most

    return {
        "distinct networks": distinct("network_hash"),
        "distinct addresses": distinct("ip_hash"),
        "distinct agents": distinct("user_agent"),
        "distinct models": distinct("model"),
        "distinct keys": distinct("key_hash"),
        "distinct parameters": distinct("parameters"),
        "distinct system prompts": distinct("system"),
        "share of repeats": 1.0 - distinct("question") / n,
        "sittings per exchange": np.where(distinct("session") > 0, distinct("session") / n, np.nan),
        "accounts on the network": company("network_hash"),
        "accounts with the agent": company("user_agent"),
        "accounts with the parameters": company("parameters"),
        "accounts with the model": company("model"),
        "accounts with the question": company("question"),
    }


def _of_table(traffic: Traffic, names: list[str]) -> dict[str, Floats]:
    rows = [traffic.accounts_table.rows[name] for name in names]
    everyone = list(traffic.accounts_table.rows.values())

    def company(field: str) -> Floats:
        counts: dict[str, int] = {}
        for row in everyone:
            value = getattr(row, field)
            counts[value] = counts.get(value, 0) + 1
        return np.array([
            np.nan if getattr(row, field) is None else counts[getattr(row, field)] for row in rows
        ], dtype=np.float64)  # fmt: skip

    return {
        "days since it was opened": np.array([
            (LIVE_FROM - (row.created_at or LIVE_FROM)) / DAY_S for row in rows
        ]),
        "level of knowledge of its holder": np.array([float(row.kyc_level or 0) for row in rows]),
        "free plan": np.array([float(row.plan == "free") for row in rows]),
        "education plan": np.array([float(row.plan == "edu") for row in rows]),
        "no payment mark": np.array([float(row.payment_hash is None) for row in rows]),
        "accounts of the organisation": company("org"),
        "accounts at the sign-up network": company("signup_network_hash"),
        "accounts with the payment mark": company("payment_hash"),
        "accounts with the e-mail domain": company("email_domain"),
        "rank of its id": stats.rankdata(names),
    }
