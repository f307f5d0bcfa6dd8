"""Items out of rows of files and out of the exchanges of logs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.questions.files import Record, refuse_row, value_at
from stillwatch.distill.questions.patterns import Pattern
from stillwatch.distill.questions.read import read_records
from stillwatch.distill.questions.shapes import Asked, Talk, asked_of, talk_of, tools_of
from stillwatch.distill.questions.table import FileTable, LogTable
from stillwatch.errors import InvalidInputError
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.record.exchange import Exchange, Message, canonical_json, from_batch
from stillwatch.record.privacy import KeyedHash

#: Where rows usually hold a conversation, and a question, most telling first.
_CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "utterances")
_QUESTIONS = ("question", "instruction", "prompt", "query", "problem", "turns", "input", "text")
_CONTEXTS = ("input", "context", "instances.0.input")  # beside an instruction
_TEXTS = ("text", "content", "value")
_SYSTEMS = ("system", "system_prompt")
_TOOLS = ("tools", "functions", "function")
_SAID = ("user", "tool")
_MAPPED = ("truth", "capability", "cluster", "check", "score", "system", "tools")


class Row(NamedTuple):
    """An item, and what its source said about when to ask it.

    Attributes:
        item: sample 0 of it.
        score: difficulty or disagreement as the source tells it, higher first, or None.
    """

    item: Item
    score: float | None = None


class FileRows:
    """The items of a `files` table; counts what gave none while it is read.

    Args:
        table: which files, and how.
        base: what paths are relative to.
        skip_bad: count rows that are no questions instead of stopping at the first.

    Attributes:
        counts: rows by what became of them (counts), complete when all items are taken.
    """

    def __init__(self, table: FileTable, base: Path, *, skip_bad: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._table = table
        self._base = base
        self._skip_bad = skip_bad
        #: Mapped columns that no row has had so far: a misspelt name must not pass in silence.
        self._unseen = {
            name: column
            for name in _MAPPED
            if isinstance(column := getattr(table.columns, name), str) and column
        }

    def __iter__(self) -> Iterator[Row]:
        """Yield the items in the order of the files.

        Yields:
            Items with their scores.

        Raises:
            InvalidInputError: a row is no question; file, line and rule are named.
        """
        for record in read_records(self._table, self._base):
            self.counts["rows"] += 1
            try:
                found = self._items(record)
            except InvalidInputError:
                if not self._skip_bad:
                    raise
                self.counts["bad"] += 1
                continue
            yield from found
        if self._unseen and self.counts["rows"]:
            name, column = next(iter(self._unseen.items()))
            message = f"{self._table.path}: no row has the column {column!r} that {name} is to be"
            raise InvalidInputError(message, hint="compare it with the names in the file")

    def _items(self, record: Record) -> list[Row]:
        fields, origin = record.fields, record.origin
        if isinstance(fields, dict) and isinstance(fields.get("item_id"), str):
            return [Row(_own_item(fields, origin))]
        if isinstance(fields, dict) and isinstance(fields.get("body"), dict):
            fields = {**fields, **fields["body"]}  # a line of a batch file
        for name in [n for n, c in self._unseen.items() if value_at(fields, c) is not None]:
            del self._unseen[name]
        turns = self._turns(fields, origin)
        asked = asked_of(turns, self._table.turns)
        if not asked:
            refuse_row(origin, "the conversation must have a user turn to be answered")
        self.counts["turns after the question"] += asked[-1].left_out
        tools = self._tools(fields, origin)
        marks = self._marks(fields, origin)
        score = self._score(fields, origin)
        if len(asked) > 1:
            # The truth of a row is about its end, and its turns belong together.
            marks |= {"truth": None, "cluster": marks["cluster"] or origin}
        return [Row(_asked_item(one, tools, marks | {"origin": origin}), score) for one in asked]

    def _turns(self, fields: Any, origin: str) -> list[Message]:
        turns, n_later = self._conversation(fields, origin)
        self.counts["later turns without an answer before"] += n_later
        if not any(turn.role == "system" for turn in turns):
            system = self._column(fields, "system", _SYSTEMS)
            text = system if isinstance(system, str) and system.strip() else self._table.system
            if text:
                turns.insert(0, Message("system", text))
        return turns

    def _conversation(self, fields: Any, origin: str) -> Talk:
        columns = self._table.columns
        if self._text is not None:
            value_of = {"text": fields}.get if isinstance(fields, str) else None
            filled = self._text.filled(value_of or (lambda name: value_at(fields, name)))
            return _one(filled)
        if isinstance(fields, str):
            return _one(fields)
        if columns.question:
            return self._question(fields, columns.question, origin)
        if columns.messages:
            return talk_of(value_at(fields, columns.messages), origin)
        return _found(fields, origin)

    def _question(self, fields: Any, names: str | tuple[str, ...], origin: str) -> Talk:
        if isinstance(names, str):
            value = value_at(fields, names)
            if isinstance(value, list | tuple):
                return talk_of(value, origin)
            names = (names,)
        values = [value_at(fields, name) for name in names]
        said = [str(value) for value in values if value is not None and str(value).strip()]
        if not said:
            rule = f"the column {' or '.join(names)} must hold the question"
            refuse_row(origin, rule, hint=_columns_hint(fields))
        return _one("\n\n".join(said))

    def _tools(self, fields: Any, origin: str) -> tuple[dict[str, Any], ...]:
        found = self._column(fields, "tools", _TOOLS)
        return tools_of(found, origin)

    def _column(self, fields: Any, what: str, usual: tuple[str, ...]) -> Any:
        name = getattr(self._table.columns, what)
        if name:
            return value_at(fields, name)
        if not isinstance(fields, dict):
            return None
        return next((fields[n] for n in usual if fields.get(n)), None)

    def _marks(self, fields: Any, origin: str) -> dict[str, Any]:
        table, columns = self._table, self._table.columns
        told = {
            name: _plain(value_at(fields, column))
            for name in ("capability", "cluster", "check")
            if (column := getattr(columns, name))
        }
        return {
            "capability": told.get("capability") or self._capability(origin),
            "cluster": told.get("cluster") or "",
            "check": told.get("check") or table.check,
            "truth": self._truth(fields, origin),
        }

    def _capability(self, origin: str) -> str:
        name = self._table.capability
        if "{stem}" in name:
            file = origin.rpartition(":")[0]
            name = name.replace("{stem}", file.rpartition("/")[2].split(".")[0])
        return name or "all"

    def _truth(self, fields: Any, origin: str) -> str | None:
        name = self._table.columns.truth or ("truth" if self._has_truth(fields) else "")
        if not name:
            return None
        value = value_at(fields, name)
        if value is None:
            return None
        truth = _plain(value)
        if self._extract is None:
            return truth
        match = self._extract.search(truth)
        if match is None:
            refuse_row(origin, "the truth must match `truth_pattern`")
        return (match[1] if match.re.groups else match[0]).strip()

    def _has_truth(self, fields: Any) -> bool:
        """Whether a pattern or a file beside has made a column of that very name."""
        return isinstance(fields, dict) and "truth" in fields

    def _score(self, fields: Any, origin: str) -> float | None:
        name = self._table.columns.score
        if not name:
            return None
        try:
            return float(value_at(fields, name))
        except (TypeError, ValueError):
            return refuse_row(origin, f"the column {name} must hold a number")

    @cached_property
    def _text(self) -> Pattern | None:
        text = self._table.text
        return Pattern(text, where="[questions.files]: text") if text else None

    @cached_property
    def _extract(self) -> re.Pattern[str] | None:
        if not self._table.truth_pattern:
            return None
        try:
            return re.compile(self._table.truth_pattern)
        except re.error as error:
            message = f"[questions.files]: truth_pattern must be a regular expression: {error}"
            raise InvalidInputError(message) from error


class LogRows:
    """The items of a `logs` table; counts what gave none while it is read.

    Args:
        table: which logs.
        base: what paths are relative to.

    Attributes:
        counts: exchanges by what became of them (counts), complete when all items are taken.
    """

    def __init__(self, table: LogTable, base: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._table = table
        self._base = base

    def __iter__(self) -> Iterator[Row]:
        """Yield the items in the order of the log.

        Yields:
            Items; exchanges without a question, or whose tools the log does not tell, are counted.
        """
        options = ReadOptions(keyed_hash=KeyedHash.generate())
        request = ReadRequest((str(self._base / self._table.path),), options, self._table.format)
        reading = Reading(request)
        for batch in reading.batches():
            for exchange in from_batch(batch):
                if self._table.limit is not None and self.counts["rows"] == self._table.limit:
                    return
                self.counts["rows"] += 1
                yield from self._items(exchange)
        self.counts["bad"] += reading.counts.quarantined

    def _items(self, exchange: Exchange) -> Iterator[Row]:
        if exchange.tools_hash is not None:
            self.counts["tools not in the log"] += 1
            return
        asked = asked_of(exchange.messages, self._table.turns)
        asked = [one for one in asked if one.messages[-1].content.strip() or one.messages[-1].extra]
        if not asked:
            self.counts["no question"] += 1
            return
        for one in asked:
            item = Item(
                item_id=item_id_of(one.messages),
                messages=one.messages,
                capability=self._table.capability or "all",
                cluster=exchange.session or "",
                origin=exchange.origin,
            )
            yield Row(item)


def said_by_users(item: Item) -> list[str]:
    """Take the texts that an item puts before the teacher, turn by turn.

    Args:
        item: the item.

    Returns:
        User turns and tool results; the score set is looked for in these.
    """
    return [turn.content for turn in item.messages if turn.role in _SAID and turn.content]


def _asked_item(asked: Asked, tools: tuple[dict[str, Any], ...], marks: dict[str, Any]) -> Item:
    last = asked.messages[-1]
    if not last.content.strip() and last.extra is None:
        refuse_row(marks["origin"], "the question must not be empty")
    item_id = item_id_of(asked.messages, tools)
    return Item(item_id=item_id, messages=asked.messages, tools=tools, **marks)


def _own_item(fields: Mapping[str, Any], origin: str) -> Item:
    """Read an item as `questions.jsonl` holds it."""
    try:
        item = msgspec.convert(fields, Item)
    except msgspec.ValidationError as error:
        refuse_row(origin, f"the row must be an item: {error}")
    if item.item_id != item_id_of(item.messages, item.tools, sample=item.sample):
        refuse_row(origin, "item_id must be the hash of the item's messages, tools and sample")
    return msgspec.structs.replace(
        item, sample=0, item_id=item_id_of(item.messages, item.tools), origin=item.origin or origin
    )


def _found(fields: Any, origin: str) -> Talk:
    """Look for a conversation or a question where data usually have them."""
    if isinstance(fields, dict):
        for name in _CONVERSATIONS:
            if fields.get(name):
                return talk_of(fields[name], origin)
        for name in _QUESTIONS:
            if fields.get(name):
                return _with_history(fields, _guessed(fields, name, origin))
    hint = _columns_hint(fields)
    rule = "the row must have a question or a conversation"
    return refuse_row(origin, rule, hint=f'name its column: columns = {{question = "..."}}; {hint}')


def _guessed(fields: Mapping[str, Any], name: str, origin: str) -> Talk:
    value = fields[name]
    if isinstance(value, list | tuple):
        return talk_of(value, origin)
    if isinstance(value, dict):  # a message with its text inside
        value = next((value[key] for key in _TEXTS if isinstance(value.get(key), str)), None)
    if not isinstance(value, str):
        refuse_row(origin, f"{name} must be a text or a conversation")
    said = [value]
    if name == "instruction":
        contexts = [value_at(fields, place) for place in _CONTEXTS]
        said += [c for c in contexts if isinstance(c, str) and c.strip()][:1]
    return _one("\n\n".join(said))


def _one(text: str) -> Talk:
    return Talk([Message("user", text)])


def _with_history(fields: Mapping[str, Any], talk: Talk) -> Talk:
    """Put earlier pairs of question and answer before the question, where a row has them."""
    history = fields.get("history")
    if not isinstance(history, list | tuple):
        return talk
    pairs = [pair for pair in history if isinstance(pair, list | tuple) and len(pair) == 2]
    earlier = [
        Message(role, str(text))
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return Talk([*earlier, *talk.turns], talk.n_later)


def _plain(value: Any) -> str:
    """A value as text; of several right answers the first."""
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    if value is None:
        return ""
    return value if isinstance(value, str) else _scalar(value)


def _scalar(value: Any) -> str:
    return canonical_json(value) if isinstance(value, dict | bool) else str(value)


def _columns_hint(fields: Any) -> str:
    if isinstance(fields, dict):
        return f"the row has {', '.join(map(str, fields))[:200]}"
    return 'the row is a bare list, whose columns are "0", "1", ...'
