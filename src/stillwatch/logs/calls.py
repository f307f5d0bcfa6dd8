"""Logged API calls to exchanges, whichever of the two vendors they went to.

Both raw formats are the same thing with other bodies: a request and its response with something
around them, a body alone, or the events of a stream one a line. What a vendor adds (which wire, how
a body is recognised) is a `Dialect`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec

from stillwatch.logs.api_bodies import (
    Assembler,
    Returned,
    assembled,
    assembler_of,
    frame_of,
    join,
    person_of,
    read_returned,
)
from stillwatch.logs.envelope import (
    UNKNOWN_TIME,
    Envelope,
    circumstances_of,
    entries_of,
    open_envelope,
)
from stillwatch.logs.fields import epoch, first_text, malformed, record_of, text
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Exchange

#: Streams that may be open at once; beyond it the one that waits longest is taken as cut.
_MOST_OPEN = 4096
#: Responses whose chain is remembered; a later one that continues an older one begins a new chain.
_MOST_SESSIONS = 200_000


class Event(NamedTuple):
    """Where a lone event of a stream belongs.

    Attributes:
        wire: the wire that it speaks.
        stream: id of its stream, "" when events carry none and follow each other.
        is_first: whether it begins a stream.
        is_last: whether it ends one.
    """

    wire: str
    stream: str
    is_first: bool
    is_last: bool


class Dialect(NamedTuple):
    """What a vendor's calls are told by.

    Attributes:
        wanted: what a record is, to follow "must be".
        wire_of: names the wire of a call's request, response and endpoint.
        event_of: reads where a lone event belongs; None for what is no event.
        is_request: whether a lone body is a request.
        is_response: whether a lone body is a response.
    """

    wanted: str
    wire_of: Callable[[Mapping[str, Any], object, str], str]
    event_of: Callable[[Mapping[str, Any]], Event | None]
    is_request: Callable[[Mapping[str, Any]], bool]
    is_response: Callable[[Mapping[str, Any]], bool]


class _Open(NamedTuple):
    assembler: Assembler
    event: Event
    origin: Origin
    first: Mapping[str, Any]


class CallConversion(Tally):
    """One log of calls being read.

    Args:
        dialect: the vendor's.
        options: how.
    """

    def __init__(self, dialect: Dialect, options: ReadOptions) -> None:
        super().__init__()
        self._dialect = dialect
        self._options = options
        self._open: OrderedDict[tuple[str, str], _Open] = OrderedDict()
        self._sessions: dict[str, str] = {}

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Turn one record into the exchanges that it completes; see `Conversion`.

        Args:
            record: the decoded record.
            origin: where it stood.

        Yields:
            Exchanges.
        """
        wanted = self._dialect.wanted
        calls = entries_of(record_of(record, origin=origin, wanted=wanted))
        # A record that wraps many calls is one place, so the place alone is no id.
        ids = [f"{origin}#{n}" for n in range(len(calls))] if len(calls) > 1 else [str(origin)]
        named = list(zip(calls, ids, strict=False))
        yield from self.each(named, origin, read=lambda one: self._call(*one, origin=origin))

    def finish(self) -> Iterator[Exchange]:
        """Give back streams that never ended; see `Conversion`.

        Yields:
            Exchanges.
        """
        while self._open:
            yield from self._close(next(iter(self._open)))

    def _call(self, call: Any, fallback_id: str, *, origin: Origin) -> Iterator[Exchange]:
        wanted = self._dialect.wanted
        found = record_of(call, origin=origin, wanted=wanted)
        # Events first: those of the Responses API hold a `response`, as an envelope does.
        event = self._event(found, origin)
        envelope = None if event is not None else open_envelope(found) or self._bare(found)
        if event is not None:
            yield from self._grow(event, found, origin)
        elif envelope is not None:
            yield self._exchange(envelope, origin, fallback_id=fallback_id)
        else:
            malformed(origin, wanted, got="an object without either")

    def _event(self, found: Mapping[str, Any], origin: Origin) -> Event | None:
        within = self._open.get((origin.file, ""))
        if within is not None and found.get("type") == "error":
            # Looks like a whole reply, but it ends the stream that is being told.
            return within.event._replace(is_first=False, is_last=True)
        if found.get("type") == "error":
            pass  # a stream may be open before
        return self._dialect.event_of(found)

    def _bare(self, body: Mapping[str, Any]) -> Envelope | None:
        if self._dialect.is_response(body):
            return Envelope({}, body, "", {}, {}, None, {})
        if self._dialect.is_request(body):
            return Envelope(body, None, "", {}, {}, None, {})
        return None

    def _exchange(self, envelope: Envelope, origin: Origin, *, fallback_id: str) -> Exchange:
        request = envelope.request
        wire = self._dialect.wire_of(request, envelope.response, envelope.endpoint)
        returned = read_returned(wire, envelope.response)
        person = person_of(request, options=self._options)
        base = circumstances_of(
            envelope, options=self._options, origin=origin, named=person.account
        )
        base = _timed(base, returned, options=self._options)
        half = "answer" if not request else "question" if envelope.response is None else None
        facts = {
            "end_user": person.end_user,
            "half": half,
            "endpoint": envelope.endpoint if wire == "other" else None,
        }
        base = msgspec.structs.replace(
            base,
            exchange_id=first_text(base.exchange_id, returned.body.get("id")) or fallback_id,
            session=base.session or person.session,
            tags={**base.tags, **{k: v for k, v in facts.items() if v}},
        )
        exchange = join(request, returned, wire=wire, circumstances=base, status=envelope.status)
        return self._in_session(exchange, text(returned.body.get("id")))

    def _in_session(self, exchange: Exchange, response_id: str | None) -> Exchange:
        # A response names the one before it only, so the first of a chain stands for all of it.
        if exchange.wire != "openai.responses" or response_id is None:
            return exchange
        self.is_apart = False
        session = exchange.session or response_id
        session = self._sessions.get(session, session)
        if len(self._sessions) >= _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[response_id] = session
        return msgspec.structs.replace(exchange, session=session)

    def _grow(self, event: Event, found: Mapping[str, Any], origin: Origin) -> Iterator[Exchange]:
        self.is_apart = False
        key = (origin.file, event.stream)
        if event.is_first and key in self._open:
            yield from self._close(key)  # the one before was cut
        within = self._open.get(key)
        stream = within or _Open(assembler_of(event.wire), event, origin, found)
        stream.assembler.feed(frame_of(found))
        self._open[key] = stream
        self.joined += within is not None
        if event.is_last:
            yield from self._close(key)
        elif len(self._open) > _MOST_OPEN:
            yield from self._close(next(iter(self._open)))

    def _close(self, key: tuple[str, str]) -> Iterator[Exchange]:
        stream = self._open.pop(key)
        return self.built(partial(self._streamed, stream), stream.origin)

    def _streamed(self, stream: _Open) -> Exchange:
        assembler, event, origin, first = stream
        returned = assembled(assembler)
        named = first_text(event.stream, getattr(assembler, "response_id", None))
        base = Exchange(
            exchange_id=named or str(origin),
            account="",
            started_at=UNKNOWN_TIME,
            origin=str(origin),
            tags={"half": "answer"},
        )
        told = returned if returned.body else returned._replace(body=first)
        base = _timed(base, told, options=self._options)
        exchange = join({}, returned, wire=event.wire, circumstances=base)
        return self._in_session(exchange, text(returned.body.get("id")))


def _timed(base: Exchange, returned: Returned, *, options: ReadOptions) -> Exchange:
    body = returned.body
    ended_at = base.ended_at or epoch(body.get("completed_at"), options=options)
    if base.started_at != UNKNOWN_TIME:
        return msgspec.structs.replace(base, ended_at=ended_at)
    created = epoch(body.get("created", body.get("created_at")), options=options)
    return msgspec.structs.replace(
        base,
        started_at=created or UNKNOWN_TIME,
        ended_at=ended_at,
        tags={**base.tags, "time": "answer" if created else "unknown"},
    )


def stream_text(response: object) -> str:
    """Take the text of a stream as far as it takes to recognise it.

    Args:
        response: what came back.

    Returns:
        The first characters of an event stream's text, or of the first events of a list; "" for
        anything else.
    """
    if isinstance(response, str):
        return response[:4096]
    if isinstance(response, list):
        return b"".join(map(frame_of, response[:3])).decode("utf-8", "replace")[:4096]
    return ""


def model_of(body: Mapping[str, Any]) -> str:
    """Name the model that a body asks for.

    Args:
        body: a request.

    Returns:
        The model's name, or "".
    """
    return text(body.get("model")) or ""
