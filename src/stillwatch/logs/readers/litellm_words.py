"""What LiteLLM's two logs have in common: how a call ended, and texts it was told not to log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatch.logs.fields import first_text, tokens
from stillwatch.record.exchange import Answer, Message

#: What LiteLLM writes in place of a text that it was told not to log, in its several hands.
REDACTED = frozenset({"redacted-by-litellm", "REDACTED_BY_LITELM", "REDACTED_BY_LITELLM"})


def mapping(value: object) -> Mapping[str, Any]:
    """Take an object where one is expected.

    Args:
        value: anything.

    Returns:
        The value if it is an object, else an empty one.
    """
    return value if isinstance(value, Mapping) else {}


def outcome(status: object, error_information: object) -> tuple[int, str | None]:
    """Read how a call ended.

    Args:
        status: success or failure; absent counts as success.
        error_information: LiteLLM's object with `error_code` and `error_class`.

    Returns:
        The HTTP status (0 for a failure without one), and a short code of the failure or None.
        The message of the error stays out: it often quotes the question.
    """
    if status != "failure":
        return 200, None
    told = mapping(error_information)
    code = tokens(told.get("error_code"))
    name = first_text(told.get("error_class"), told.get("error_code")) or "failure"
    return code if code is not None and 100 <= code <= 599 else 0, name[:64]


def own_messages(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Leave out turns whose text LiteLLM replaced by its placeholder.

    Args:
        turns: as logged.

    Returns:
        Those that hold their own text.
    """
    for turn in turns:
        if turn.content in REDACTED:
            return tuple(turn for turn in turns if turn.content not in REDACTED)
    return turns


def own_answers(answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Leave out answers whose text LiteLLM replaced by its placeholder.

    Args:
        answers: as logged.

    Returns:
        Those that hold their own text.
    """
    for answer in answers:
        if answer.text in REDACTED:
            return tuple(answer for answer in answers if answer.text not in REDACTED)
    return answers
