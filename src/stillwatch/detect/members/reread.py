"""Reads a few exchanges of a log again, to show them: nothing is decided here.

Profiles keep hashes and, at most, beginnings of questions. Evidence names the exchanges that show
it by their keys; this module finds them in the log and fills in the words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from stillwatch.detect.discovery.shared import key_text, spread_rows
from stillwatch.detect.evidence.exhibits import Quote, Trait, Traits, Value, Wording, Wordings
from stillwatch.detect.evidence.explain import Explanation
from stillwatch.detect.evidence.quotes import mark_shared, split_marks, without_marks
from stillwatch.detect.evidence.worth import (
    Price,
    average_price,
    shares,
    subject_shares,
    telling_words,
)
from stillwatch.detect.findings import Campaign, Evidence, Findings
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.record.parquet import reading
from stillwatch.text.ragged import Hashes

COLUMNS = (
    "exchange_id", "account", "started_at", "model", "messages", "parameters", "user_agent",
    "network_hash", "org",
)  # fmt: skip
#: Exchanges of accounts outside all campaigns that words are compared with.
_OTHERS = 240
#: Characters shown of a system prompt, of a question, and of a label.
_SYSTEM, _QUESTION, _LABEL = 300, 900, 90
#: Row groups of Parquet read for their texts; a row group may hold a hundred megabytes.
_MOST_GROUPS = 48
#: Quotes shown of one skeleton; more are read, to see what they share.
_SHOWN = 4


class Read(NamedTuple):
    """An exchange that was read again.

    Attributes:
        exchange_id: as the log gave it.
        account: who asked.
        started_at: epoch seconds.
        system: its system prompt.
        question: its question.
        model: the model asked for.
        parameters: as JSON text.
        user_agent: client software.
        network: hash of the network.
        org: organisation.
    """

    exchange_id: str
    account: str
    started_at: float
    system: str
    question: str
    model: str
    parameters: str
    user_agent: str
    network: str
    org: str


Reader = Callable[[Collection[str]], dict[str, Read]]


def keys_of(column: pa.Array) -> Hashes:
    """Give the keys under which profiles know exchanges.

    Args:
        column: exchange ids.

    Returns:
        One key an exchange, shape (n,).
    """
    from stillwatch.detect.profiles.columns import texts_of
    from stillwatch.text.kernels import hash_texts

    return hash_texts(texts_of(column))


def read_exchanges(batches: Iterable[pa.RecordBatch], wanted: Collection[str]) -> dict[str, Read]:
    """Find exchanges in a log by their keys.

    Args:
        batches: the log; reading stops when all are found.
        wanted: keys.

    Returns:
        What was found, by key.
    """
    looked_for = _numbers(wanted)
    found: dict[str, Read] = {}
    for batch in batches:
        if len(found) == len(looked_for):
            break
        keys = keys_of(batch["exchange_id"])
        hits = np.flatnonzero(np.isin(keys, looked_for))
        rows = batch.take(pa.array(hits)).to_pylist() if len(hits) else []
        for key, row in zip(keys[hits].tolist(), rows, strict=True):
            found[f"{key:016x}"] = _read(row)
    return found


def read_files(paths: Sequence[Path], wanted: Collection[str]) -> dict[str, Read]:
    """Find exchanges in Parquet of the store's schema, reading texts only where one of them is.

    Args:
        paths: files.
        wanted: keys.

    Returns:
        What was found, by key.
    """
    return read_exchanges(_row_groups(paths, _numbers(wanted)), wanted)


def enrich(
    findings: Findings, profiles: Profiles, read: Reader, *, prices: Sequence[Price] = ()
) -> Findings:
    """Fill in the words of the evidence from the log.

    Args:
        findings: the result of `detect`.
        profiles: the log's.
        read: finds exchanges by key.
        prices: list prices that the user gave.

    Returns:
        The findings with longer quotes, named traits, models, subjects, words and dollars.
    """
    named = {account for campaign in findings.campaigns for account in campaign.accounts}
    others = _others(profiles, named) if findings.campaigns else ()
    wanted = {key for c in findings.campaigns for key in _samples(c)} | set(others)
    reads = read(wanted) if wanted else {}
    apart = [reads[key].question for key in others if key in reads]
    campaigns = tuple(
        msgspec.structs.replace(c, evidence=_fill(c, reads, others=apart, prices=prices))
        for c in findings.campaigns
    )
    return msgspec.structs.replace(findings, campaigns=campaigns)


def _others(profiles: Profiles, named: set[str]) -> tuple[str, ...]:
    digests = profiles.digests
    outside = np.array([name not in named for name in profiles.accounts.to_pylist()], dtype=bool)
    rows = np.flatnonzero(outside[digests.account])
    picked = spread_rows(digests, rows, _OTHERS)
    return tuple(key_text(digests, row) for row in picked.tolist())


def _samples(campaign: Campaign) -> Iterator[str]:
    for evidence in campaign.evidence:
        exhibit = evidence.exhibit
        if isinstance(exhibit, Wordings):
            for item in exhibit.items:
                yield from item.samples
        elif isinstance(exhibit, Traits):
            yield from (trait.sample for trait in exhibit.items if trait.sample)


def _fill(
    campaign: Campaign, reads: dict[str, Read], *, others: list[str], prices: Sequence[Price]
) -> tuple[Evidence, ...]:
    asked: list[str] = []
    models: list[str] = []
    filled = []
    for evidence in campaign.evidence:
        exhibit = evidence.exhibit
        if isinstance(exhibit, Wordings):
            mine = [_quoted(item, reads, others) for item in exhibit.items]
            asked += [text for _, rest in mine for text in rest]
            models += [reads[k].model for item in exhibit.items for k in item.samples if k in reads]
            source = "log" if any(rest for _, rest in mine) else exhibit.quoted_from
            exhibit = Wordings(
                items=tuple(item for item, _ in mine), total=exhibit.total, quoted_from=source
            )
        elif isinstance(exhibit, Traits):
            items = tuple(_labelled(trait, reads) for trait in exhibit.items)
            exhibit = Traits(items=items, missing=exhibit.missing)
        filled.append(msgspec.structs.replace(evidence, exhibit=exhibit))
    return tuple(
        _valued(e, asked, models=models, others=others, prices=prices)
        if isinstance(e.exhibit, Value)
        else e
        for e in filled
    )


def quote_again(explanation: Explanation, read: Reader) -> Explanation:
    """Quote the wording that an account uses from the log.

    Args:
        explanation: of the account.
        read: finds exchanges by key.

    Returns:
        The explanation with longer quotes, system prompts among them.
    """
    wanted = {key for habit in explanation.habits for key in habit.samples}
    reads = read(wanted) if wanted else {}
    habits = [
        msgspec.structs.replace(habit, quotes=quotes) if quotes else habit
        for habit in explanation.habits
        for quotes in (_quotes([reads[key] for key in habit.samples if key in reads]),)
    ]
    return msgspec.structs.replace(explanation, habits=tuple(habits))


def _quoted(
    item: Wording, reads: dict[str, Read], others: Sequence[str]
) -> tuple[Wording, list[str]]:
    """Quote a skeleton at length; the second part is what was asked besides the skeleton."""
    quotes = _quotes([reads[key] for key in item.samples if key in reads], others)
    if not quotes:
        return item, []
    rest = [without_marks(quote.text, quote.marks) for quote in quotes]
    return msgspec.structs.replace(item, quotes=quotes[:_SHOWN]), rest


def _quotes(found: Sequence[Read], others: Sequence[str] = ()) -> tuple[Quote, ...]:
    """Quote questions below their system prompts, what they share marked in both."""
    heads = [_cut(read.system, _SYSTEM) for read in found]
    texts = [_cut(read.question, _QUESTION) for read in found]
    joined = [f"{head}\n{text}" for head, text in zip(heads, texts, strict=True)]
    quotes = []
    for read, head, text, marks in zip(
        found, heads, texts, mark_shared(joined, others=others), strict=True
    ):
        above, below = split_marks(marks, len(head) + 1)
        quote = Quote(
            account=read.account,
            text=text,
            marks=below,
            exchange_id=read.exchange_id,
            started_at=read.started_at,
            system=head,
            system_marks=tuple((a, min(b, len(head))) for a, b in above),
        )
        quotes.append(quote)
    return tuple(quotes)


def _labelled(trait: Trait, reads: dict[str, Read]) -> Trait:
    read = reads.get(trait.sample)
    if read is None:
        return trait
    labels = {
        "system prompt": read.system,
        "model and settings": f"{read.model} {read.parameters}".strip(),
        "client software": read.user_agent,
        "network": read.network,
        "organisation": read.org,
    }
    label = " ".join(labels.get(trait.kind, "").split())
    return msgspec.structs.replace(trait, label=_cut(label, _LABEL))


def _valued(
    evidence: Evidence,
    asked: list[str],
    *,
    models: list[str],
    others: list[str],
    prices: Sequence[Price],
) -> Evidence:
    value = evidence.exhibit
    assert isinstance(value, Value), "only the value taken is priced"
    by_model = shares(models)
    price = average_price(by_model, prices)
    usd = None
    if price is not None:
        spent = value.output_tokens * price.usd_output
        usd = (spent + (value.input_tokens or 0) * price.usd_input) / 1e6
    value = msgspec.structs.replace(
        value,
        usd=usd,
        usd_per_million=None if price is None else (price.usd_input, price.usd_output),
        priced="" if price is None else price.source,
        models=by_model,
        subjects=subject_shares(asked) if asked else {},
        words=telling_words(asked, others),
        read_again=len(asked),
    )
    text, figures = evidence.text, dict(evidence.figures)
    if usd is not None:
        text += f" About ${usd:,.2f} at {value.priced}."
        figures["usd"] = usd
    return msgspec.structs.replace(evidence, text=text, figures=figures, exhibit=value)


def _row_groups(paths: Sequence[Path], looked_for: Hashes) -> Iterator[pa.RecordBatch]:
    """Read the row groups that hold most of what is wanted: of a long log some examples will do."""
    hits = []
    for path in paths:
        with reading(path) as file:
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["exchange_id"])["exchange_id"]
                n = sum(int(np.isin(keys_of(chunk), looked_for).sum()) for chunk in ids.chunks)
                hits += [(n, path, group)] if n else []
    hits.sort(key=lambda hit: -hit[0])
    for _, path, group in hits[:_MOST_GROUPS]:
        with reading(path) as file:
            known = [name for name in COLUMNS if name in file.schema_arrow.names]
            yield from file.read_row_group(group, columns=known).to_batches()


def _numbers(keys: Collection[str]) -> Hashes:
    return np.array(sorted(int(key, 16) for key in set(keys)), dtype=np.uint64)


def _read(row: dict[str, Any]) -> Read:
    turns = row.get("messages") or ()
    question = next((t["content"] for t in reversed(turns) if t["role"] == "user"), "")
    system = "\n".join(t["content"] or "" for t in turns if t["role"] == "system")
    text = {name: row.get(name) or "" for name in COLUMNS if name not in {"messages", "started_at"}}
    return Read(
        exchange_id=text["exchange_id"],
        account=text["account"],
        started_at=row.get("started_at") or 0.0,
        system=system,
        question=question or "",
        model=text["model"],
        parameters=text["parameters"],
        user_agent=text["user_agent"],
        network=text["network_hash"],
        org=text["org"],
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
