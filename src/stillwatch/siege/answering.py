"""From a chat question to rows for a local model, and from its generations to a reply. No I/O.

Beside the server so that the rules of sampling parameters can be read and tested without a socket.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from stillwatch.model.local import Generation, GenerationRow, LocalModel, LogitBias, TokenChoice
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, canonical_json
from stillwatch.wire.chat import BadRequestError

_PATH = re.compile(r"^(?P<rule>.*) - at `\$\.(?P<name>[a-z_]+).*`$")


class Sampling(msgspec.Struct, frozen=True):
    """The parameters that the house models obey, by OpenAI's names and within OpenAI's bounds.

    Attributes:
        temperature: 0 for greedy; None takes the model's own default.
        top_p: share of probability that is drawn from.
        n: answers to give (count); 16 at most, where OpenAI allows 128.
        seed: makes the draws repeat; None draws anew each time.
        max_tokens: where an answer is cut (count).
        max_completion_tokens: the same by its newer name, which wins.
        stop: texts that end an answer and are not part of it.
        logprobs: report the log-probability of each token.
        top_logprobs: likeliest tokens to report with each (count).
    """

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    n: Annotated[int, Meta(ge=1, le=16)] = 1
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] = 0

    @property
    def stops(self) -> list[str]:
        """The stop texts that are not empty."""
        given = [self.stop] if isinstance(self.stop, str) else (self.stop or [])
        return [text for text in given if text]


def read_sampling(question: Question) -> Sampling:
    """Read the sampling parameters of a question; fields that mean nothing here are passed over.

    Args:
        question: as it was parsed.

    Returns:
        The parameters, within their bounds.

    Raises:
        BadRequestError: a parameter breaks its rule; `param` names it.
    """
    try:
        sampling = msgspec.convert(question.parameters, Sampling)
    except msgspec.ValidationError as error:
        found = _PATH.match(str(error))
        name, rule = (found["name"], found["rule"]) if found else ("parameters", str(error))
        message = f"chat request: {name} must be {rule.removeprefix('Expected ')}"
        raise BadRequestError(message, param=name, code="invalid_value") from None
    if sampling.top_logprobs and not sampling.logprobs:
        message = "chat request: top_logprobs must be 0 unless logprobs is true"
        raise BadRequestError(message, param="top_logprobs", code="invalid_value")
    return sampling


def plan_rows(
    question: Question, sampling: Sampling, *, model: LocalModel, bias: LogitBias | None
) -> list[GenerationRow]:
    """Write one row an answer that is wanted.

    Args:
        question: as it was parsed.
        sampling: its parameters.
        model: the model that shall answer.
        bias: the watermark, or None.

    Returns:
        `sampling.n` rows with seeds of their own; the first has the question's seed itself.

    Raises:
        BadRequestError: nobody asks anything, or the question is too long for the model.
    """
    asked = next((m.content for m in reversed(question.messages) if m.role == "user"), None)
    if asked is None:
        message = "chat request: messages must be with at least one user turn"
        raise BadRequestError(message, param="messages", code="invalid_value")
    prompt_ids = model.encode_question(asked)
    if len(prompt_ids) >= model.context:
        message = (
            f"chat request: messages must be at most {model.context - 1} tokens in the line that "
            f"model {model.name} reads, got {len(prompt_ids)}"
        )
        raise BadRequestError(message, param="messages", code="context_length_exceeded")
    temperature = sampling.temperature
    limit = sampling.max_completion_tokens or sampling.max_tokens
    return [
        GenerationRow(
            prompt_ids=prompt_ids,
            max_new_tokens=limit or model.defaults.max_new_tokens,
            temperature=model.defaults.temperature if temperature is None else temperature,
            top_p=sampling.top_p,
            seed=_seed(sampling.seed, index),
            bias=bias,
            n_top=sampling.top_logprobs if sampling.logprobs else None,
        )
        for index in range(sampling.n)
    ]


def assemble(
    generations: Sequence[Generation],
    *,
    question: Question,
    sampling: Sampling,
    model: LocalModel,
) -> Reply:
    """Put the reply together: cut at stop texts, count tokens, attach log-probabilities.

    Args:
        generations: one an answer.
        question: what was asked.
        sampling: its parameters.
        model: the model that answered.

    Returns:
        The reply. Its input tokens are those of the whole conversation, as a provider bills them,
        though the house models read one line of it; its output tokens are those of all answers.
    """
    cut = [_cut(generation, sampling.stops, model=model) for generation in generations]
    return Reply(
        answers=tuple(_answer(generation, model) for generation in cut),
        model_returned=model.name,
        input_tokens=count_input_tokens(question, model),
        output_tokens=sum(len(generation.token_ids) for generation in cut),
    )


def count_input_tokens(question: Question, model: LocalModel) -> int:
    """Count the tokens of a whole conversation: its texts, one a turn, and two around all.

    Args:
        question: as it was parsed.
        model: whose tokenizer counts.

    Returns:
        Tokens (count).
    """
    return 2 + sum(1 + len(model.token_ids(m.content)) for m in question.messages)


def _seed(seed: int | None, index: int) -> int:
    if seed is None:
        return secrets.randbits(63)
    if index == 0:
        return seed % 2**64
    # Hashed, so that answer 2 of seed 7 is not answer 1 of seed 8.
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8])


def _cut(generation: Generation, stops: Sequence[str], *, model: LocalModel) -> Generation:
    found = [at for at in (generation.text.find(stop) for stop in stops) if at >= 0]
    if not found:
        return generation
    text = generation.text[: min(found)]
    # Count what had to be generated before the stop text could be seen.
    n_tokens = next(
        n
        for n in range(1, len(generation.token_ids) + 1)
        if any(stop in model.tokenizer.decode(generation.token_ids[:n]) for stop in stops)
    )
    return generation._replace(
        text=text,
        token_ids=generation.token_ids[:n_tokens],
        finish_reason="stop",
        choices=generation.choices and generation.choices[:n_tokens],
    )


def _answer(generation: Generation, model: LocalModel) -> Answer:
    extra = None
    if generation.choices is not None:
        content = [_token(choice, model) for choice in generation.choices]
        extra = canonical_json({"logprobs": {"content": content, "refusal": None}})
    return Answer(text=generation.text, finish_reason=generation.finish_reason, extra=extra)


def _token(choice: TokenChoice, model: LocalModel) -> dict[str, Any]:
    chosen = _scored(choice.token_id, choice.logprob, model)
    return {**chosen, "top_logprobs": [_scored(i, logprob, model) for i, logprob in choice.top]}


def _scored(token_id: int, logprob: float, model: LocalModel) -> dict[str, Any]:
    text = model.tokenizer.token_text(token_id)
    # JSON has no infinity; -9999 is what OpenAI writes for a token that cannot come.
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}
