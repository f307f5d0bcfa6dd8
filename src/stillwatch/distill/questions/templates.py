"""Questions made by filling slots: the whole product, or a part of it drawn without repeats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.questions.files import ENDINGS, ending_of, find_files
from stillwatch.distill.questions.patterns import Pattern
from stillwatch.distill.questions.rows import Row
from stillwatch.distill.questions.table import TemplateTable
from stillwatch.distill.questions.tabular import csv_records, text_records
from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Message

_WHERE = "[questions.templates]"
_ROUNDS = 6  # of the Feistel network; four already pass for random


class Template:
    """A template with its slots read.

    Args:
        table: its table.
        base: what paths are relative to.
        number: its place among the templates, from 1.

    Attributes:
        size: different fillings (count).

    Raises:
        InvalidInputError: a slot is missing, unused or empty.
    """

    def __init__(self, table: TemplateTable, base: Path, *, number: int = 1) -> None:
        self.name = table.name or f"template {number}"
        self._table = table
        where = f"{_WHERE} {self.name}"
        self._texts = [Pattern(text, where=f"{where}: text") for text in table.texts]
        others = {"truth": table.truth, "system": table.system, "cluster": table.cluster}
        self._others = {k: Pattern(v, where=f"{where}: {k}") for k, v in others.items() if v}
        self._slots = {
            name: _values(name, value, base, where=where) for name, value in table.slots.items()
        }
        self._check(where)
        self.size = math.prod(map(len, self._slots.values())) * len(self._texts)

    def rows(self, *, seed: int) -> Iterator[Row]:
        """Make the questions.

        A larger count begins with the questions of a smaller one. Without a count the whole product
        comes in order, the last slot turning fastest.

        Args:
            seed: of the draw.

        Yields:
            Items.
        """
        count = self._table.count
        if count is None or count >= self.size:
            places: Iterator[int] = iter(range(self.size))
        else:
            draw = _Shuffle(self.size, key=f"{seed}\0{self.name}")
            places = (draw.place(n) for n in range(count))
        for place in places:
            yield Row(self.item(place))

    def item(self, place: int) -> Item:
        """Make one question.

        Args:
            place: its number in the product, from 0.

        Returns:
            The item.
        """
        origin = f"{self.name}:{place + 1}"
        chosen = {}
        for name, values in reversed(self._slots.items()):
            place, digit = divmod(place, len(values))
            chosen[name] = values[digit]
        filled = {
            name: pattern.filled(lambda slot: _slot_value(chosen, slot))
            for name, pattern in [("text", self._texts[place]), *self._others.items()]
        }
        messages: tuple[Message, ...] = (Message("user", filled["text"]),)
        if "system" in filled:
            messages = (Message("system", filled["system"]), *messages)
        return Item(
            item_id=item_id_of(messages),
            messages=messages,
            capability=self._table.capability,
            cluster=filled.get("cluster", f"{self.name}/{place + 1}"),
            truth=filled.get("truth"),
            check=self._table.check,
            origin=origin,
        )

    def _check(self, where: str) -> None:
        used: set[str] = set()
        for pattern in (*self._texts, *self._others.values()):
            for name in pattern.names:
                slot, _, field = name.partition(".")
                if slot not in self._slots:
                    known = ", ".join(self._slots) or "none"
                    message = f"{pattern.where}: slot {{{name}}} must be among the slots"
                    raise InvalidInputError(message, hint=f"slots: {known}")
                _check_field(self._slots[slot], field, where=f"{pattern.where}: {{{name}}}")
                used.add(slot)
        if unused := [name for name in self._slots if name not in used]:
            message = f"{where}: slot {unused[0]} must be used, or every question comes repeatedly"
            raise InvalidInputError(message)


class _Shuffle:
    """A permutation of 0..size-1 that needs no table: a Feistel network, walked until inside."""

    def __init__(self, size: int, *, key: str) -> None:
        self._size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._key = key

    def place(self, n: int) -> int:
        while True:
            n = self._once(n)
            if n < self._size:
                return n

    def _once(self, n: int) -> int:
        mask = (1 << self._half) - 1
        left, right = n >> self._half, n & mask
        for turn in range(_ROUNDS):
            mixed = xxhash.xxh3_64_intdigest(f"{self._key}\0{turn}\0{right}".encode())
            left, right = right, left ^ (mixed & mask)
        return left << self._half | right


def _values(name: str, given: Any, base: Path, *, where: str) -> Sequence[Any]:
    where = f"{where}: slots.{name}"
    values: Sequence[Any]
    if isinstance(given, dict) and "range" in given:
        values = _range(given["range"], where)
    elif isinstance(given, dict) and isinstance(given.get("file"), str):
        values = _from_file(given["file"], base, column=str(given.get("column", "")))
    elif isinstance(given, list | tuple):
        values = list(given)
    else:
        message = f"{where} must be a list, {{range = [1, 9]}} or {{file = ...}}"
        raise InvalidInputError(message)
    if not values:
        message = f"{where} must hold at least one value"
        raise InvalidInputError(message)
    if len({isinstance(value, dict) for value in values[:1000]}) > 1:
        message = f"{where} must hold only values or only tables"
        raise InvalidInputError(message)
    return values


def _range(given: Any, where: str) -> range:
    whole = isinstance(given, list) and all(type(n) is int for n in given)
    if not whole or len(given) not in {2, 3} or (len(given) == 3 and given[2] < 1):
        message = f"{where}: range must be [first, last] or [first, last, step], whole numbers"
        raise InvalidInputError(message)
    return range(given[0], given[1] + 1, *given[2:])


def _from_file(path: str, base: Path, *, column: str) -> list[Any]:
    place = find_files(path, base)[0]
    if ENDINGS.get(ending_of(place.path)) != "csv":
        return [record.fields for record in text_records(place, "")]
    rows = [record.fields for record in csv_records(place, has_header=True)]
    if not column:
        return rows
    if rows and column not in rows[0]:
        message = f"{place.name}: column must be one of {', '.join(rows[0])}, got {column!r}"
        raise InvalidInputError(message)
    return [row[column] for row in rows]


def _check_field(values: Sequence[Any], field: str, *, where: str) -> None:
    is_table = isinstance(values[0], dict)
    if is_table and (not field or any(field not in value for value in values)):
        told = ", ".join(map(str, values[0]))
        message = f"{where} must name a field that every value has"
        raise InvalidInputError(message, hint=f"fields: {told}")
    if field and not is_table:
        message = f"{where}: the slot has no fields"
        raise InvalidInputError(message)


def _slot_value(chosen: Mapping[str, Any], name: str) -> Any:
    slot, _, field = name.partition(".")
    return chosen[slot][field] if field else chosen[slot]
