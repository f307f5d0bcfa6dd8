"""What the wires beside Chat Completions share: opening a body, refusing it, keeping the rest."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from stillwatch.record.exchange import canonical_json
from stillwatch.wire.chat import BadRequestError

_decode = msgspec.json.Decoder().decode
NOT_RECORDED = "not recorded: too large a number, or nested too deep"


def open_request(body: bytes, *, wire: str) -> dict[str, Any]:
    """Open a request's body.

    Args:
        body: JSON bytes.
        wire: the wire as messages name it.

    Returns:
        The object.

    Raises:
        BadRequestError: not JSON, or no object.
    """
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = f"{wire} request: body must be JSON, got {len(body)} bytes that are not"
        raise BadRequestError(message, param=None, code="invalid_json") from None
    if not isinstance(found, dict):
        refuse(wire, "body", "a JSON object", got=found)
    return found


def open_reply(body: bytes) -> dict[str, Any]:
    """Open a reply's body.

    Args:
        body: JSON bytes.

    Returns:
        The object; an empty one for what is none.
    """
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def refuse(wire: str, name: str, rule: str, *, got: object) -> NoReturn:
    """Refuse a request by the field at fault.

    Args:
        wire: the wire as messages name it.
        name: the field, by the wire's name; "body" for the whole.
        rule: what it must be, to follow "must be".
        got: the value; only its kind is told, because it may be somebody's text.

    Raises:
        BadRequestError: always.
    """
    kind = "nothing" if got is None else type(got).__name__
    message = f"{wire} request: {name} must be {rule}, got {kind}"
    raise BadRequestError(message, param=None if name == "body" else name, code="invalid_value")


def keep(more: dict[str, Any]) -> str | None:
    """Write what has no field of its own as JSON.

    Args:
        more: by name.

    Returns:
        Canonical JSON, or None for nothing.
    """
    if not more:
        return None
    try:
        return canonical_json(more)
    except (OverflowError, RecursionError):
        return canonical_json({"not_recorded": NOT_RECORDED})


def kept(extra: str | None) -> dict[str, Any]:
    """Read back what `keep` wrote.

    Args:
        extra: the JSON, or None.

    Returns:
        The object, an empty one for None.
    """
    found = _decode(extra) if extra is not None else {}
    return found if isinstance(found, dict) else {}


def count(value: object) -> int | None:
    """Read a count of tokens.

    Args:
        value: anything.

    Returns:
        The count, or None for what is no whole number from 0.
    """
    return value if type(value) is int and 0 <= value < 2**63 else None
