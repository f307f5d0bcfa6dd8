"""Streamed Anthropic Messages: replies to events, and events of any split back to a reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from stillwatch.wire.chat import ReplyHead
from stillwatch.wire.chat_stream import dict_of, error_code, list_of, text_of
from stillwatch.wire.messages import reply_from, wire_message
from stillwatch.wire.question import Reply
from stillwatch.wire.sse import EventParser, ServerSentEvent, encode_event

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
#: Fields of a block that come in deltas, by the block's type, and the type of delta that brings
#: them.
_DELTAS = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}


def encode_stream(head: ReplyHead, reply: Reply) -> Iterator[bytes]:
    """Write a whole reply as a stream: start, per block its start, content and stop, then the end.

    Args:
        head: id and model of the reply.
        reply: what was answered, one answer at most.

    Yields:
        One event at a time.
    """
    message = wire_message(head, reply)
    blocks, message["content"] = message["content"], []
    ending = {name: message.pop(name, None) for name in ("stop_reason", "stop_sequence")}
    if "stop_details" in message:
        ending["stop_details"] = message.pop("stop_details")
    usage = message["usage"]
    # The wire wants a count at the start too, when nothing has been written yet.
    message["usage"] = {k: 0 if k == "output_tokens" else v for k, v in usage.items()}
    yield _event("message_start", message=message)
    for index, block in enumerate(blocks):
        yield from _encode_block(index, block)
    if ending["stop_reason"] is not None or blocks:
        told = {k: v for k, v in usage.items() if k == "output_tokens"}
        yield _event("message_delta", delta=ending, usage=told)
    yield _event("message_stop")


class MessageAssembler:
    """Puts a streamed message together from its bytes, split anywhere.

    Watches and never fails: what it cannot read it counts and skips, because the client gets the
    same bytes whatever we make of them.

    Attributes:
        done: whether the stream said that it was complete.
        has_output: whether any text, reasoning or tool call has come.
        error_code: type of an error that came inside the stream, or None.
        response_id: the message's id, "" until it has come.
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
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, dict[str, list[str]]] = {}

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
        kind = event.get("type")
        index = event.get("index")
        index = index if isinstance(index, int) else 0
        if kind == "content_block_delta":
            self._grow(index, dict_of(event.get("delta")))
        elif kind == "content_block_start":
            self._blocks[index] = dict(dict_of(event.get("content_block")))
            self.has_output = (
                self.has_output or text_of(self._blocks[index].get("type")) not in _DELTAS
            )
        elif kind == "message_start":
            self._message = dict(dict_of(event.get("message")))
            self.response_id = text_of(self._message.get("id"))
            if not self._message.get("stop_reason"):
                # What is counted before the first token says nothing about an answer that is cut.
                told = dict(dict_of(self._message.get("usage")))
                self._message["usage"] = {k: v for k, v in told.items() if k != "output_tokens"}
        elif kind == "message_delta":
            self._message |= {k: v for k, v in dict_of(event.get("delta")).items() if v is not None}
            told = {k: v for k, v in dict_of(event.get("usage")).items() if v is not None}
            self._message["usage"] = {**dict_of(self._message.get("usage")), **told}
        elif kind == "message_stop":
            self.done = True
        elif kind == "error" or "error" in event:
            self.error_code = error_code(event.get("error"))

    def reply(self) -> Reply:
        """Say what has been answered so far; a cut stream gives what came before the cut.

        Returns:
            The reply; no answers when no block has come.
        """
        for event in self._parser.close():
            self._read(event)
        # A start may carry content already, as proxies that turn a whole reply into a stream do.
        given = dict(enumerate(list_of(self._message.get("content"))))
        blocks = {**given, **{index: self._block(index) for index in self._blocks}}
        return reply_from({**self._message, "content": [blocks[n] for n in sorted(blocks)]})

    def _read(self, event: ServerSentEvent) -> None:
        try:
            found = _decode(event.data)
        except (msgspec.DecodeError, RecursionError):
            found = None
        if isinstance(found, dict):
            self.take(found)
        elif event.data != "[DONE]":  # some proxies end every stream so
            self.n_unreadable += 1

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks.setdefault(index, {"type": "text", "text": ""})
        for name, value in delta.items():
            if name == "type" or value is None:
                continue
            self.has_output = self.has_output or (name != "signature" and value != "")
            if name == "citation":
                block["citations"] = [*list_of(block.get("citations")), value]
            elif isinstance(value, str):
                self._pieces.setdefault(index, {}).setdefault(name, []).append(value)
            else:
                block[name] = value

    def _block(self, index: int) -> dict[str, Any]:
        block = dict(self._blocks[index])
        for name, pieces in self._pieces.get(index, {}).items():
            block[name] = text_of(block.get(name)) + "".join(pieces)
        written = block.pop("partial_json", "")
        if not written:
            return block
        try:
            return {**block, "input": _decode(written)}
        except (msgspec.DecodeError, TypeError, RecursionError):
            # Cut in the middle, or no text: it is worth keeping, as what it is.
            return {**block, "partial_json": written}


def _encode_block(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    kind = text_of(block.get("type"))
    if kind in _DELTAS:
        name, delta = _DELTAS[kind]
        empty: dict[str, Any] = {"type": kind, name: ""}
        if kind == "thinking":
            empty["signature"] = ""
        deltas: list[dict[str, Any]] = [{"type": delta, name: block[name]}]
        if block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        cited = list_of(block.get("citations"))
        deltas += [{"type": "citations_delta", "citation": citation} for citation in cited]
    elif isinstance(block.get("input"), dict) and block["input"]:
        empty = {**block, "input": {}}
        written = _encode(block["input"]).decode()
        deltas = [{"type": "input_json_delta", "partial_json": written}]
    else:
        empty, deltas = block, []
    yield _event("content_block_start", index=index, content_block=empty)
    for delta_body in deltas:
        yield _event("content_block_delta", index=index, delta=delta_body)
    yield _event("content_block_stop", index=index)


def _event(kind: str, **fields: object) -> bytes:
    return encode_event(_encode({"type": kind, **fields}), event=kind)
