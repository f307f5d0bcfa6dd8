"""Answers and conversations that rest at the model server: whose they are, and who asks for them.

An answer's id is noted before the client has it, from the bytes on their way, so that no follow-up
can come too early. Ids that clients write are looked up and never learned: whoever could teach the
gateway an id could claim somebody else's.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec
from starlette.types import Message, Send

from stillwatch.guard.keys import Principal
from stillwatch.guard.recording.recorder import Asked
from stillwatch.guard.routes.headers import is_event_stream
from stillwatch.guard.routes.owners import Owner
from stillwatch.guard.routes.replies import Refusal
from stillwatch.guard.routes.wires import CHAT, RESPONSES
from stillwatch.guard.state import GuardState
from stillwatch.wire.sse import EventParser

#: Says the same of an id that is nobody's and of one that is somebody else's.
NOT_STORED: Final = Refusal(
    404,
    "No stored response or conversation has the id that was given.",
    "previous_response_not_found",
    final=True,
)
#: Stands for the ids in a list of everybody's: nobody can own it, so it is an unknown id.
ANYBODYS: Final = ""
#: Routes under `responses` that are not ids.
_VERBS: Final = frozenset({"compact", "input_tokens"})
_ENDINGS: Final = ('"response.completed"', '"response.incomplete"')


@lru_cache(1024)
def stored_id_of(path: str) -> str | None:
    """Find the id of a stored answer or conversation in a path.

    Args:
        path: of a request, percent-encoding undone.

    Returns:
        The id, or None for a path that names none.

    Example:
        >>> stored_id_of("/v1/responses/resp_1/input_items")
        'resp_1'
    """
    names = _names(path)
    for place, name in enumerate(names[:-1]):
        kind, follows = name.lower(), names[place + 1]
        before = names[place - 1].lower() if place else ""
        if kind == "conversations" or (kind == "completions" and before == "chat"):
            return follows
        if kind == "responses" and follows.lower() not in _VERBS:
            return follows
    return None


def names_in_body(path: str) -> bool:
    """Say whether a route that is not read names stored answers in its body.

    Args:
        path: of a POST request.

    Returns:
        True for the verbs beside the answers themselves (counting and compacting a conversation).
    """
    names = _names(path.lower())
    return len(names) > 1 and names[-1] in _VERBS and names[-2] == "responses"


def lists_stored(path: str) -> bool:
    """Say whether a route lists the stored answers of everybody behind the gateway's key.

    Args:
        path: of a GET request.

    Returns:
        True for the list of stored chat answers.
    """
    return _names(path.lower())[-2:] == ["chat", "completions"]


def begins_conversation(path: str) -> bool:
    """Say whether a route makes a conversation.

    Args:
        path: of a POST request.

    Returns:
        True when the answer holds the id of a new one.
    """
    return _names(path.lower())[-1:] == ["conversations"]


def _names(path: str) -> list[str]:
    return [name for name in posixpath.normpath(path).split("/") if name]


class _Item(msgspec.Struct):
    id: str | None = None


class _Told(msgspec.Struct):
    id: str | None = None
    output: list[_Item] | None = None
    response: _Told | None = None


_decode = msgspec.json.Decoder(_Told).decode


class IdWatch:
    """Stands between the relay and the client and notes the ids in an answer before it passes.

    Args:
        send: ASGI's, of the client.
        note: takes each id, once or more.
        keep_bytes: how much of an answer that comes whole is held to be read; a longer one passes
            unread.
        in_events: a stream's ids stand in `response` inside its events (Responses); else at the
            top of them (Chat Completions).
    """

    def __init__(
        self, send: Send, note: Callable[[str], None], *, keep_bytes: int, in_events: bool = False
    ) -> None:
        self._send = send
        self._note = note
        self._room = keep_bytes
        self._in_events = in_events
        self._is_watching = False
        self._has_id = False
        self._parser: EventParser | None = None
        self._parts: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        """Pass one message on.

        Args:
            message: ASGI's.
        """
        if message["type"] == "http.response.start":
            pairs = message["headers"]
            is_plain = not any(name == b"content-encoding" for name, _ in pairs)
            self._is_watching = message["status"] == 200 and is_plain
            self._parser = EventParser() if is_event_stream(pairs) else None
        elif self._is_watching:
            self._take(message.get("body", b""), is_last=not message.get("more_body", False))
        await self._send(message)

    def _take(self, part: bytes, *, is_last: bool) -> None:
        if self._parser is not None:
            for event in self._parser.feed(part):
                self._read_event(event.data)
            return
        self._room -= len(part)
        if self._room < 0:
            self._is_watching, self._parts = False, []
            return
        self._parts.append(part)
        if is_last:
            self._read(b"".join(self._parts), in_response=False)

    def _read_event(self, data: str) -> None:
        if not self._has_id:
            self._read(data, in_response=self._in_events)
        elif self._in_events and any(ending in data for ending in _ENDINGS):
            # By now the items of the answer have their ids too.
            self._read(data, in_response=True)
        if self._has_id and not self._in_events:
            self._is_watching = False

    def _read(self, data: bytes | str, *, in_response: bool) -> None:
        try:
            told: _Told | None = _decode(data)
        except (msgspec.MsgspecError, RecursionError):
            return
        told = told.response if told is not None and in_response else told
        if told is None or not told.id:
            return
        self._has_id = True
        self._note(told.id)
        for item in told.output or ():
            if item.id:
                self._note(item.id)


def watched(state: GuardState, asked: Asked, send: Send) -> Send:
    """Let the ids in the answer to a question be noted, where it will be stored.

    Args:
        state: shared.
        asked: the question; its session is the noted ids' session, or begins with this answer.
        send: ASGI's, of the client.

    Returns:
        What to send through: `send` itself where nothing is stored.
    """
    question = asked.question
    if question is not None and question.parameters.get("background") is True:
        asked.tags["channel"] = "background"  # its answer is fetched later, by a route that passes
    stores: Any = question.parameters.get("store") if question is not None else None
    # What cannot be read may be stored all the same.
    is_stored = stores is not False if asked.wire is RESPONSES else stores is True
    if not is_stored or asked.wire not in {RESPONSES, CHAT}:
        return send
    note = noting(state, asked.principal, asked.session)
    in_events = asked.wire is RESPONSES
    keep = state.config.limits.record_bytes
    return IdWatch(send, note, keep_bytes=keep, in_events=in_events)


def noting(state: GuardState, principal: Principal, session: str | None) -> Callable[[str], None]:
    """Make the function that notes the ids of one answer.

    Args:
        state: shared.
        principal: who is given it.
        session: the conversation that it belongs to; None begins one, named by the first id.

    Returns:
        Takes one id.
    """

    def note(stored_id: str) -> None:
        nonlocal session
        session = session or stored_id
        state.owners.note(stored_id, Owner(principal.account, principal.org, session))

    return note
