"""Streamed OpenAI Responses: replies to events, and events of any split back to a reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from stillwatch.wire.chat import ReplyHead
from stillwatch.wire.chat_stream import dict_of, error_code, list_of, text_of
from stillwatch.wire.question import Reply
from stillwatch.wire.responses import reply_from, wire_response
from stillwatch.wire.sse import EventParser, ServerSentEvent, encode_event

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_ENDINGS = frozenset({"response.completed", "response.incomplete", "response.failed"})
#: Where a delta's text goes: the list of parts and the field of the part, or the item's own field.
_PART_DELTAS = {
    "response.output_text.delta": ("content", "text", "output_text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "text", "reasoning_text"),
    "response.reasoning_summary_text.delta": ("summary", "text", "summary_text"),
}
_ITEM_DELTAS = {
    "response.function_call_arguments.delta": ("arguments", "function_call"),
    "response.custom_tool_call_input.delta": ("input", "custom_tool_call"),
    "response.mcp_call_arguments.delta": ("arguments", "mcp_call"),
    "response.code_interpreter_call_code.delta": ("code", "code_interpreter_call"),
}


def encode_stream(head: ReplyHead, reply: Reply) -> Iterator[bytes]:
    """Write a whole reply as a stream: created, per item its start, text and end, then the ending.

    Args:
        head: id, model and time of the reply.
        reply: what was answered, one answer at most.

    Yields:
        One event at a time.
    """
    whole = wire_response(head, reply)
    for number, (kind, fields) in enumerate(_events(whole)):
        yield encode_event(_encode({"type": kind, "sequence_number": number, **fields}), event=kind)


class ResponseAssembler:
    """Puts a streamed response together from its bytes, split anywhere.

    Watches and never fails: what it cannot read it counts and skips. The ending carries the whole
    response again and is believed; a cut stream gives what its deltas brought.

    Attributes:
        done: whether the stream said how it ended.
        has_output: whether any text, reasoning or tool call has come.
        error_code: code or type of an error that came inside the stream, or None.
        response_id: the response's id, "" until it has come.
        n_chunks: events read (count).
        n_unreadable: events that were not one of the wire (count).
    """

    def __init__(self) -> None:
        self.done = False
        self.has_output = False
        self.error_code: str | None = None
        self.response_id = ""
        self.n_chunks = 0
        self.n_unreadable = 0
        self._parser = EventParser()
        self._response: dict[str, Any] = {}
        self._items: dict[int, _Item] = {}

    @property
    def response(self) -> Mapping[str, Any]:
        """The response object as far as the stream told it."""
        return self._response

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream.

        Args:
            data: any number of bytes, split anywhere.
        """
        for event in self._parser.feed(data):
            self._read(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one decoded event.

        Args:
            event: the data of a server-sent event; events of unknown type are counted and skipped.
        """
        self.n_chunks += 1
        kind = text_of(event.get("type"))
        told = dict_of(event.get("response"))
        if told:
            # The first events echo the question; nulls in a later one must not undo an earlier.
            self._response |= {name: value for name, value in told.items() if value is not None}
            self.response_id = text_of(self._response.get("id"))
        if kind in _ENDINGS:
            self.done = True
            self.has_output = self.has_output or bool(told.get("output"))
        if kind == "error" or event.get("error") is not None:
            self.error_code = error_code(event.get("error") or event)
        elif told.get("error") is not None:
            self.error_code = error_code(told["error"])
        index = event.get("output_index")
        if isinstance(index, int):
            taken = self._items.setdefault(index, _Item()).take(kind, event)
            self.has_output = self.has_output or taken

    def reply(self) -> Reply:
        """Say what has been answered so far; a cut stream gives what came before the cut.

        Returns:
            The reply; no answers when no item has come.
        """
        for event in self._parser.close():
            self._read(event)
        output = list_of(self._response.get("output"))
        if not (self.done and output):
            output = [self._items[index].whole() for index in sorted(self._items)]
        return reply_from({**self._response, "output": output})

    def _read(self, event: ServerSentEvent) -> None:
        try:
            found = _decode(event.data)
        except (msgspec.DecodeError, RecursionError):
            found = None
        if isinstance(found, dict):
            self.take(found)
        elif event.data != "[DONE]":  # some proxies end every stream so
            self.n_unreadable += 1


class _Item:
    """One output item while it grows."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}
        self._parts: dict[tuple[str, int], dict[str, Any]] = {}
        self._pieces: dict[tuple[str, int, str], list[str]] = {}
        self._is_done = False

    def take(self, kind: str, event: Mapping[str, Any]) -> bool:
        """Add one event of this item; True when it brought output."""
        if kind in {"response.output_item.added", "response.output_item.done"}:
            self._given = dict_of(event.get("item")) or self._given
            self._is_done = kind.endswith("done")
            return text_of(self._given.get("type")) not in {"message", "reasoning"} or self._is_done
        if kind in _PART_DELTAS:
            where, name, part_type = _PART_DELTAS[kind]
            at = event.get("summary_index" if where == "summary" else "content_index")
            at = at if isinstance(at, int) else 0
            part = self._parts.setdefault((where, at), {"type": part_type})
            if logprobs := list_of(event.get("logprobs")):
                part.setdefault("logprobs", []).extend(logprobs)
            item_type = "message" if part_type in {"output_text", "refusal"} else "reasoning"
            self._add(where, at, name, text=event.get("delta"), item_type=item_type)
            return bool(event.get("delta"))
        if kind in _ITEM_DELTAS:
            name, item_type = _ITEM_DELTAS[kind]
            self._add("", 0, name, text=event.get("delta"), item_type=item_type)
            return bool(event.get("delta"))
        return False

    def whole(self) -> dict[str, Any]:
        """The item as it stands."""
        if self._is_done:
            return self._given
        item = dict(self._given)
        for where in ("content", "summary"):
            found = {n: part for (place, n), part in self._parts.items() if place == where}
            if found:
                item[where] = [self._part(where, n, found[n]) for n in sorted(found)]
        for (where, _, name), pieces in self._pieces.items():
            if not where:
                item[name] = text_of(item.get(name)) + "".join(pieces)
        return item

    def _add(self, where: str, at: int, name: str, *, text: object, item_type: str) -> None:
        self._given = self._given or {"type": item_type}
        self._pieces.setdefault((where, at, name), []).append(text_of(text))

    def _part(self, where: str, at: int, part: dict[str, Any]) -> dict[str, Any]:
        grown = {
            name: "".join(pieces)
            for (place, n, name), pieces in self._pieces.items()
            if (place, n) == (where, at)
        }
        return {**part, **grown}


def _events(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = {**whole, "output": [], "status": "in_progress", "incomplete_details": None}
    begun.pop("usage", None)
    yield "response.created", {"response": begun}
    for index, item in enumerate(whole["output"]):
        at = {"output_index": index, "item_id": item.get("id")}
        empty = {**item, "content": []} if item.get("type") == "message" else item
        yield "response.output_item.added", {"output_index": index, "item": empty}
        if item.get("type") == "message":
            for n, part in enumerate(list_of(item.get("content"))):
                yield from _part_events({**at, "content_index": n}, part)
        yield "response.output_item.done", {"output_index": index, "item": item}
    ending = whole["status"] if whole["status"] in {"incomplete", "failed"} else "completed"
    yield f"response.{ending}", {"response": whole}


def _part_events(at: dict[str, Any], part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write one part of a message: its start, its text, its end."""
    if part.get("type") != "output_text":
        yield "response.content_part.added", {**at, "part": part}
        yield "response.content_part.done", {**at, "part": part}
        return
    logprobs = list_of(part.get("logprobs"))
    yield "response.content_part.added", {**at, "part": {**part, "text": ""}}
    yield "response.output_text.delta", {**at, "delta": part["text"], "logprobs": logprobs}
    yield "response.output_text.done", {**at, "text": part["text"], "logprobs": logprobs}
    yield "response.content_part.done", {**at, "part": part}
