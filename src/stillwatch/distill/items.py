"""What a run asks and what it learns from: items, and examples that were kept.

An item is one question to be asked, whatever it came from. Its id is a hash of what is asked, so
the same question from two files is one item, and another sample of it is another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stillwatch.errors import InvalidInputError
from stillwatch.record.disk import replace_lines
from stillwatch.record.exchange import Answer, Message, canonical_json

T = TypeVar("T")


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question to ask.

    Attributes:
        item_id: `item_id_of` its messages, tools and sample, 24 hex digits.
        messages: the conversation, system turns included, ending with the turn to be answered.
        tools: tool definitions by the Chat Completions shape, or ().
        sample: which of several answers to one question this is, from 0.
        capability: the skill it asks for; curves are fitted for each.
        cluster: what items of one origin share (a passage, a template); intervals are clustered by
            it. "" stands for the item itself.
        truth: the right answer where one is known, or None.
        check: how an answer is compared with the truth; "" leaves it to the run's settings.
        origin: the file and line, or the template, that it was made from.
    """

    item_id: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    sample: int = 0
    capability: str = "all"
    cluster: str = ""
    truth: str | None = None
    check: str = ""
    origin: str = ""

    @property
    def question(self) -> str:
        """The last user turn's text, or "" when there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answered item that training may learn from.

    Attributes:
        item: what was asked.
        answer: the teacher's answer; log-probabilities and tool calls, where it gave any, are in
            its `extra`.
        exchange_id: where the answer rests in the record.
        output_tokens: as the teacher counted them, or None.
    """

    item: Item
    answer: Answer
    exchange_id: str = ""
    output_tokens: int | None = None


def item_id_of(
    messages: Iterable[Message], tools: Iterable[dict[str, Any]] = (), *, sample: int = 0
) -> str:
    """Hash what is asked.

    Args:
        messages: the conversation.
        tools: tool definitions.
        sample: which of several answers.

    Returns:
        24 hex digits; the same for equal questions, on any machine.

    Example:
        >>> item_id_of([Message(role="user", content="1+1?")])
        'e00f594829d5ff14e6443e51'
    """
    asked = {
        "messages": [msgspec.to_builtins(message) for message in messages],
        "tools": list(tools),
        "sample": sample,
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()[:24]


def write_items(path: Path, items: Iterable[Item]) -> int:
    """Write items as JSON lines, atomically.

    Args:
        path: the file.
        items: any number, written in the order given.

    Returns:
        Items written (count).
    """
    return replace_lines(path, items)


def read_items(path: Path) -> Iterator[Item]:
    """Read what `write_items` wrote.

    Args:
        path: the file.

    Returns:
        The items in order.

    Raises:
        InvalidInputError: while they are taken: a line is not an item; file and line are named.
    """
    hint = "make the questions again with `stillwatch distill plan`"
    return read_lines(path, Item, what="an item", hint=hint)


def read_lines(path: Path, kind: type[T], *, what: str, hint: str) -> Iterator[T]:
    """Read JSON lines.

    Args:
        path: the file.
        kind: what each line holds.
        what: the same in words, with its article.
        hint: what to do about a line that is none.

    Yields:
        The rows in order.

    Raises:
        InvalidInputError: a line is none; file and line are named.
    """
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                message = f"{path}:{number}: not {what}: {error}"
                raise InvalidInputError(message, hint=hint) from error
