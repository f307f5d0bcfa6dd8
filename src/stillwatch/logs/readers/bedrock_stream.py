"""Streams of Amazon Bedrock as its log lists them: events of any family put together to a reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from stillwatch.logs.blocks import answer_of
from stillwatch.logs.fields import first_text, number, text, tokens
from stillwatch.record.exchange import Answer
from stillwatch.wire.chat import ChunkAssembler
from stillwatch.wire.sse import encode_event


class Metrics(NamedTuple):
    """What a reply says about itself.

    Attributes:
        input_tokens: count, or None.
        output_tokens: count, or None.
        duration_s: seconds to the last byte, or None.
        first_output_s: seconds to the first byte, or None.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    duration_s: float | None = None
    first_output_s: float | None = None


class StreamReply(NamedTuple):
    """A reply put together.

    Attributes:
        answers: the choices.
        metrics: tokens and times.
        model: that the reply names, or None.
        has_choices: the events were Chat Completions chunks.
    """

    answers: tuple[Answer, ...]
    metrics: Metrics
    model: str | None
    has_choices: bool


def metrics_of(*bodies: Mapping[str, Any]) -> Metrics:
    """Find counts and times wherever a family puts them.

    Args:
        *bodies: a reply's body, or a stream's events; later ones win, as streams count up.

    Returns:
        What was found.
    """
    found: dict[str, Any] = {}
    for body in bodies:
        places = [body, *(v for n in _PLACES if isinstance(v := body.get(n), Mapping))]
        message = body.get("message")
        if isinstance(message, Mapping):
            places.append(message)
        for place in places:
            usage = place.get("usage")
            metrics = place.get("metrics")
            for told in (place, usage, metrics):
                if isinstance(told, Mapping):
                    found |= {n: told[n] for n in _COUNTS if told.get(n) is not None}
    duration = number(found.get("invocationLatency", found.get("latencyMs")))
    first = number(found.get("firstByteLatency"))
    return Metrics(
        _count(found, _INPUT),
        _count(found, _OUTPUT),
        None if duration is None else max(0.0, duration) / 1000,
        None if first is None else max(0.0, first) / 1000,
    )


def assemble(events: Sequence[Mapping[str, Any]]) -> StreamReply:
    """Put a stream together.

    Args:
        events: in the order of the log.

    Returns:
        The reply; events of unknown kinds add nothing.
    """
    metrics = metrics_of(*events)
    if any(isinstance(event.get("choices"), list) for event in events):
        chunks = ChunkAssembler()
        for event in events:
            chunks.feed(encode_event(msgspec.json.encode(event)))
        reply = chunks.reply()
        return StreamReply(reply.answers, metrics, reply.model_returned or None, has_choices=True)
    growing = _Growing()
    for event in events:
        growing.take(event)
    answers = () if growing.is_empty else (answer_of(growing.content(), growing.finish_reason),)
    return StreamReply(answers, metrics, growing.model, has_choices=False)


_PLACES = ("amazon-bedrock-invocationMetrics", "metadata")
_INPUT = (
    "inputTokenCount", "inputTokens", "input_tokens", "prompt_tokens", "prompt_token_count",
    "inputTextTokenCount",
)  # fmt: skip
_OUTPUT = (
    "outputTokenCount", "outputTokens", "output_tokens", "completion_tokens",
    "generation_token_count", "totalOutputTextTokenCount",
)  # fmt: skip
_COUNTS = frozenset({*_INPUT, *_OUTPUT, "invocationLatency", "latencyMs", "firstByteLatency"})


def _count(found: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((n for name in names if (n := tokens(found.get(name))) is not None), None)


@dataclass
class _Growing:
    """A reply while its events come in; its blocks by their index in the stream."""

    blocks: dict[int, dict[str, Any]] = field(default_factory=dict)
    finish_reason: str = ""
    model: str | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing came but envelopes."""
        return not self.blocks and not self.finish_reason

    def take(self, event: Mapping[str, Any]) -> None:
        """Add one event of Converse, Anthropic, or one of the older families."""
        if isinstance(start := event.get("message"), Mapping):
            self.model = text(start.get("model")) or self.model
        for name, inner in event.items():
            if not isinstance(inner, Mapping):
                continue
            if name in {"contentBlockStart", "contentBlockDelta"}:
                self._add(inner.get("contentBlockIndex"), inner.get("start", inner.get("delta")))
            elif name in {"content_block", "delta"}:
                self._add(event.get("index"), inner)
            self._end(inner)
        self._end(event)
        self._older(event)

    def content(self) -> list[dict[str, Any]]:
        """The blocks in order, as Anthropic writes whole ones."""
        return [self.blocks[index] for index in sorted(self.blocks)]

    def _add(self, index: object, piece: object) -> None:
        """Add a block's start or one of its pieces."""
        if not isinstance(piece, Mapping):
            return
        place = index if isinstance(index, int) else 0
        use = piece.get("toolUse", piece if piece.get("type") == "tool_use" else None)
        thought = piece.get("reasoningContent")
        thinking = thought.get("text") if isinstance(thought, Mapping) else piece.get("thinking")
        if isinstance(use, Mapping):
            self._tool(place, use)
        elif isinstance(piece.get("partial_json"), str):
            self._tool(place, {"input": piece["partial_json"]})
        elif isinstance(thinking, str):
            block = self.blocks.setdefault(place, {"type": "thinking", "thinking": ""})
            block["thinking"] = block.get("thinking", "") + thinking
        elif isinstance(piece.get("text"), str):
            block = self.blocks.setdefault(place, {"type": "text", "text": ""})
            block["text"] = block.get("text", "") + piece["text"]

    def _tool(self, place: int, use: Mapping[str, Any]) -> None:
        block = self.blocks.setdefault(place, {"type": "tool_use", "input": ""})
        block["id"] = first_text(use.get("toolUseId"), use.get("id"), block.get("id"))
        block["name"] = first_text(use.get("name"), block.get("name")) or ""
        if isinstance(use.get("input"), str):  # an empty object stands where pieces will follow
            block["input"] = block.get("input", "") + use["input"]

    def _end(self, told: Mapping[str, Any]) -> None:
        reason = first_text(*(told.get(name) for name in _REASONS))
        self.finish_reason = reason or self.finish_reason

    def _older(self, event: Mapping[str, Any]) -> None:
        """Families whose pieces are bare texts; Cohere's last event repeats the whole text."""
        if event.get("event_type") == "stream-end":
            return
        outputs = event.get("outputs")
        pieces = outputs if isinstance(outputs, list) else [event]
        for piece in pieces:
            if isinstance(piece, Mapping):
                said = next((piece[n] for n in _TEXTS if isinstance(piece.get(n), str)), None)
                self._add(0, {"text": said})
                self._end(piece)


_REASONS = ("stopReason", "stop_reason", "completionReason", "finish_reason")
_TEXTS = ("outputText", "generation", "completion", "text")
