"""OpenAI's legacy Completions: bytes to questions and replies. No I/O.

A prompt is no conversation; it is recorded as one, so that the rest of the package need not know:

- every prompt of the body becomes one message with role user; a prompt given as token numbers, of
  which nobody here knows the text, keeps them as JSON in `extra["token_ids"]`;
- of the choices, `text` is the answer and `logprobs` stay in `extra`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.wire import chat
from stillwatch.wire.body import keep, open_request, refuse
from stillwatch.wire.chat_stream import ChunkReader, dict_of, list_of, text_of
from stillwatch.wire.question import PosedQuestion, Question, Reply

_WIRE = "completions"
_ENVELOPE = frozenset({"prompt", "model", "stream", "stream_options"})


def parse_completions_request(body: bytes) -> PosedQuestion:
    """Read the question from a body, and whether the answer shall be streamed.

    Args:
        body: JSON bytes.

    Returns:
        The question and how its answer shall travel.

    Raises:
        BadRequestError: not JSON, or nothing that could be a prompt.
    """
    found = open_request(body, wire=_WIRE)
    model = found.get("model")
    if model is not None and not isinstance(model, str):
        refuse(_WIRE, "model", "a text", got=model)
    question = Question(
        messages=tuple(_prompts(found.get("prompt"))),
        model=model or "",
        parameters={k: v for k, v in found.items() if k not in _ENVELOPE and v is not None},
    )
    return PosedQuestion(question, found.get("stream") is True)


def exchange_from(question: Question, reply: Reply | None, *, circumstances: Exchange) -> Exchange:
    """Join what was asked and answered to who asked, when and how.

    Args:
        question: as it was parsed.
        reply: as it was parsed or assembled; None when there was none.
        circumstances: id, account, times, status, action and the like; its own content is replaced.

    Returns:
        The exchange to record, its wire "other" as the readers of logs name this one.
    """
    joined = chat.exchange_from(question, reply, circumstances=circumstances)
    return msgspec.structs.replace(joined, wire="other")


class TextAssembler(ChunkReader):
    """Puts a streamed completion together."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[int, list[str]] = {}
        self._ends: dict[int, str] = {}
        self._logprobs: dict[int, dict[str, Any]] = {}

    def _answers(self) -> Iterator[Answer]:
        for index in sorted(self._texts):
            told = self._logprobs.get(index)
            yield Answer(
                text="".join(self._texts[index]),
                finish_reason=self._ends.get(index, ""),
                extra=keep({"logprobs": told} if told else {}),
            )

    def _grow(self, index: int, choice: dict[str, Any]) -> None:
        self._texts.setdefault(index, []).append(text_of(choice.get("text")))
        if end := text_of(choice.get("finish_reason")):
            self._ends[index] = end
        for name, value in dict_of(choice.get("logprobs")).items():
            grown = self._logprobs.setdefault(index, {})
            if isinstance(value, list) and isinstance(grown.get(name), list):
                grown[name].extend(value)
            else:
                grown[name] = value


def _prompts(prompt: object) -> list[Message]:
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    given = list_of(prompt)
    if not given:
        refuse(_WIRE, "prompt", "a text, token numbers, or a list of either", got=prompt)
    if all(type(number) is int for number in given):
        return [_numbered(given)]
    prompts = []
    for n, one in enumerate(given):
        if isinstance(one, str):
            prompts.append(Message("user", one))
        elif isinstance(one, list):
            prompts.append(_numbered(one))
        else:
            refuse(_WIRE, f"prompt[{n}]", "a text or token numbers", got=one)
    return prompts


def _numbered(token_ids: list[Any]) -> Message:
    return Message("user", "", keep({"token_ids": token_ids}))
