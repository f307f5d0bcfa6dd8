"""One call as LiteLLM holds it: a dictionary on the way in, a logging payload on the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stillwatch.guard.connections.relay import CLIENT_GONE
from stillwatch.guard.inside.callers import address_in, caller_of, wanted_headers
from stillwatch.guard.inside.config import Whose
from stillwatch.guard.inside.decide import Answered, Occasion
from stillwatch.guard.routes.wires import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Wire
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.readers.litellm_words import REDACTED

#: The kinds of call that are questions; others carry nothing that can be read here.
_WIRES: Final[Mapping[str, Wire]] = {
    "completion": CHAT,
    "acompletion": CHAT,
    "text_completion": COMPLETIONS,
    "atext_completion": COMPLETIONS,
    "anthropic_messages": MESSAGES,
    "responses": RESPONSES,
    "aresponses": RESPONSES,
}
#: What LiteLLM adds to a call for itself; it holds keys, and objects that are no JSON.
_NOT_ASKED: Final = frozenset({
    "proxy_server_request", "secret_fields", "litellm_call_id", "litellm_logging_obj",
    "litellm_metadata", "litellm_trace_id", "litellm_session_id", "guardrails", "api_key",
    "headers",
})  # fmt: skip
#: LiteLLM's status of a call whose client left before the end.
_GONE: Final = "499"
_encode = msgspec.json.Encoder(enc_hook=lambda _: None).encode


def wire_of_call(call_type: str) -> Wire | None:
    """Say how a kind of call asks.

    Args:
        call_type: LiteLLM's word.

    Returns:
        The wire, or None for what is no question.
    """
    return _WIRES.get(call_type)


def stamped(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find LiteLLM's own facts about a call; where the wire has a `metadata`, they lie elsewhere.

    Args:
        data: the call.

    Returns:
        The facts, empty when there are none.
    """
    for name in ("litellm_metadata", "metadata"):
        found = data.get(name)
        if isinstance(found, Mapping) and "user_api_key_hash" in found:
            return found
    return {}


def body_of(data: Mapping[str, Any]) -> bytes:
    """Write a call as the JSON of its wire, without what LiteLLM added for itself.

    Args:
        data: the call.

    Returns:
        JSON bytes.
    """
    metadata = data.get("metadata")
    is_own = isinstance(metadata, Mapping) and "user_api_key_hash" in metadata
    return _encode({
        name: value
        for name, value in data.items()
        if name not in _NOT_ASKED and not (is_own and name == "metadata")
    })


class Calls:
    """Turns LiteLLM's calls into questions and answers.

    Args:
        options: holds the key for hashes.
        whose: what an account is.
        trusted_hops: proxies of yours in front of LiteLLM.
    """

    def __init__(self, options: ReadOptions, *, whose: Whose, trusted_hops: int) -> None:
        self._options = options
        self._whose = whose
        self._trusted_hops = trusted_hops

    def occasion(self, data: Mapping[str, Any], wire: Wire | None) -> Occasion:
        """Read a call.

        Args:
            data: the call.
            wire: how it asks; None for what is no question, and has no body here then.

        Returns:
            The question and who asks it.
        """
        told = stamped(data)
        caller = caller_of(told, whose=self._whose, options=self._options)
        request = data.get("proxy_server_request")
        headers = wanted_headers(request.get("headers") if isinstance(request, Mapping) else None)
        peer = told.get("requester_ip_address")
        address = address_in(headers, peer, trusted_hops=self._trusted_hops)
        body = body_of(data) if wire is not None else b""
        return Occasion(
            caller.account, caller.key, caller.org, wire or CHAT, body, headers, address
        )


def take_over(data: dict[str, Any], before: bytes, after: bytes) -> None:
    """Do to a call what was done to its JSON.

    Args:
        data: the call; changed.
        before: its JSON.
        after: the JSON that shall be asked instead.
    """
    if before == after:
        return
    old, new = msgspec.json.decode(before), msgspec.json.decode(after)
    for name in old.keys() - new.keys():
        data.pop(name, None)
    changed = (name for name, value in new.items() if name not in old or old[name] != value)
    data.update({name: new[name] for name in changed})


def answered_of(payload: Mapping[str, Any]) -> Answered:
    """Read how a call ended from LiteLLM's standard logging payload.

    Args:
        payload: of a call that succeeded; an answer cut off by its client counts as one.

    Returns:
        What came of it.
    """
    began = _seconds(payload.get("startTime"))
    ended = _seconds(payload.get("endTime")) or began
    first = _seconds(payload.get("completionStartTime")) or ended
    response, tags = payload.get("response"), {}
    if payload.get("cache_hit") is True:
        tags["cache_hit"] = "true"
    wire, body = CHAT, None
    if isinstance(response, Mapping):
        wire, body = _told(response)
        if body is not None and any(b'"%b"' % word.encode() in body for word in REDACTED):
            body, tags["redacted"] = None, "true"
    failed = payload.get("error_information")
    is_gone = isinstance(failed, Mapping) and failed.get("error_code") == _GONE
    return Answered(
        200,
        body,
        wire,
        CLIENT_GONE if is_gone else None,
        streamed=payload.get("stream") is True,
        first_s=max(0.0, first - began),
        whole_s=max(0.0, ended - began),
        tags=tags,
    )


def failed_of(error: BaseException) -> Answered:
    """Read how a call failed.

    Args:
        error: what LiteLLM ended it with; its text may quote the question and is not looked at.

    Returns:
        What came of it.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = 500
    return Answered(status, None, CHAT, type(error).__name__[:64])


def _told(response: Mapping[str, Any]) -> tuple[Wire, bytes | None]:
    if "choices" in response:
        is_text = response.get("object") == "text_completion"
        return (COMPLETIONS if is_text else CHAT), _encode(response)
    if "output" in response:
        # LiteLLM counts in Chat Completions' words whatever was asked.
        usage = response.get("usage")
        counts = usage if isinstance(usage, Mapping) else {}
        told = {
            "input_tokens": counts.get("prompt_tokens", counts.get("input_tokens")),
            "output_tokens": counts.get("completion_tokens", counts.get("output_tokens")),
        }
        return RESPONSES, _encode({**response, "usage": told})
    if response.get("type") == "message":
        return MESSAGES, _encode(response)
    return CHAT, None


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
