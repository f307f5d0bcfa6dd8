"""What a question asks of a local model, and its generations as a reply in the wire's shape."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from stillwatch.errors import reject
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.chat_turns import take_apart
from stillwatch.model.decode import Generation, TokenChoice
from stillwatch.model.protocol import Question, Reply
from stillwatch.model.token_bytes import vocabulary_bytes
from stillwatch.record.exchange import Answer, canonical_json


class Asked(NamedTuple):
    """A question's parameters as a local model reads them.

    Attributes:
        model: the name that replies carry.
        seeds: one a choice.
        temperature: None leaves it to the model.
        top_p: None leaves it to the model.
        max_new_tokens: None leaves it to the model.
        stops: texts that end an answer and are not part of it.
        n_top: likeliest tokens to report a position, None for no log-probabilities.
        has_tools: whether tools were offered.
    """

    model: str
    seeds: tuple[int, ...]
    temperature: float | None
    top_p: float | None
    max_new_tokens: int | None
    stops: tuple[str, ...]
    n_top: int | None
    has_tools: bool

    @property
    def n(self) -> int:
        """Answers asked for (count)."""
        return len(self.seeds)


def asked_of(question: Question, *, name: str) -> Asked:
    """Read a question's parameters.

    Args:
        question: parameters by OpenAI Chat Completions names.
        name: the model's name.

    Returns:
        What it asks for; without a seed every question has seed 0, so that answers repeat.
    """
    given = question.parameters
    n = int(given.get("n") or 1)
    if n < 1:
        reject(f"model {name}", "n", "at least 1", got=n)
    limit = given.get("max_completion_tokens", given.get("max_tokens"))
    stop = given.get("stop") or ()
    seed = int(given.get("seed") or 0) % 2**63
    return Asked(
        model=name,
        seeds=tuple(_seed(seed, k) for k in range(n)),
        temperature=_number(given.get("temperature")),
        top_p=_number(given.get("top_p")),
        max_new_tokens=None if limit is None else int(limit),
        stops=(stop,) if isinstance(stop, str) else tuple(stop),
        n_top=int(given.get("top_logprobs") or 0) if given.get("logprobs") else None,
        has_tools=bool(given.get("tools")),
    )


def reply_of(found: Sequence[Generation], asked: Asked, *, template: ChatTemplate) -> Reply:
    """Put a reply together.

    Args:
        found: one generation a choice.
        asked: what was asked.
        template: the model's tokenizer.

    Returns:
        The reply; log-probabilities are in the answers' `extra`, in the Chat Completions shape.
    """
    return Reply(
        answers=tuple(_answer(one, asked, template) for one in found),
        model_returned=asked.model,
        input_tokens=len(found[0].prompt_ids),
        output_tokens=sum(len(one.token_ids) for one in found),
    )


def _answer(found: Generation, asked: Asked, template: ChatTemplate) -> Answer:
    text, reason, choices = found.text, found.finish_reason, found.choices
    at = min((text.find(stop) for stop in asked.stops if stop in text), default=-1)
    if at >= 0:
        text, reason = text[:at], "stop"
        if choices is not None:
            n_seen = _tokens_until(found, at, template)
            choices = choices[:n_seen]
    said = take_apart(text, has_tools=asked.has_tools, thinks=template.thinks)
    more: dict[str, Any] = {}
    if said.tool_calls:
        more["tool_calls"] = list(said.tool_calls)
        reason = "tool_calls" if reason == "stop" else reason
    if choices is not None:
        more["logprobs"] = logprobs_of(choices, vocabulary_bytes(template.tokenizer))
    extra = canonical_json(more) if more else None
    return Answer(text=said.text, finish_reason=reason, reasoning=said.reasoning, extra=extra)


def logprobs_of(choices: Sequence[TokenChoice], words: Sequence[bytes]) -> dict[str, Any]:
    """Lay log-probabilities out in the Chat Completions shape.

    Args:
        choices: one a token of the answer.
        words: the bytes of each token id.

    Returns:
        The value of `logprobs`.
    """
    content = [
        {
            **_scored(choice.token_id, choice.logprob, words),
            "top_logprobs": [_scored(i, logprob, words) for i, logprob in choice.top],
        }
        for choice in choices
    ]
    return {"content": content, "refusal": None}


def _tokens_until(found: Generation, at: int, template: ChatTemplate) -> int:
    """Count the tokens whose text lies before character `at`."""
    for n in range(len(found.token_ids), 0, -1):
        if len(template.decode(found.token_ids[:n])) <= at:
            return n
    return 0


def _scored(token_id: int, logprob: float, words: Sequence[bytes]) -> dict[str, Any]:
    raw = words[token_id] if token_id < len(words) else b""
    # JSON has no infinity; -9999 is what OpenAI writes for a token that cannot come.
    return {
        "token": raw.decode("utf-8", "replace"),
        "logprob": max(logprob, -9999.0),
        "bytes": list(raw),
    }


def _seed(seed: int, k: int) -> int:
    if k == 0:
        return seed
    # Hashed, so that answer 2 of seed 7 is not answer 1 of seed 8.
    return int.from_bytes(hashlib.sha256(f"{seed}:{k}".encode()).digest()[:7])


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
