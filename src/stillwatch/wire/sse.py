"""Server-sent events: bytes in any split to events, and back. No I/O.

Follows the event stream format of the HTML standard: lines end with LF, CR or CRLF, a leading byte
order mark and comment lines are skipped, data lines of one event join with LF, an empty line ends
the event.
"""

from __future__ import annotations

from typing import NamedTuple


class ServerSentEvent(NamedTuple):
    """One event of a stream.

    Attributes:
        data: the data lines joined by LF.
        event: the event's type; "message" when none was named.
    """

    data: str
    event: str = "message"


class EventParser:
    """Turns the bytes of a stream, split anywhere, into events.

    Undecodable bytes become U+FFFD: a stream that is only watched must not fail on them.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._event = b""
        self._skip_lf = False
        self._at_start = True

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes.

        Args:
            data: any number of bytes, split anywhere, inside a character too.

        Returns:
            The events that these bytes completed, in order.
        """
        if not data:
            return []
        if self._skip_lf:  # the CR that ended the last bytes was half of a CRLF
            self._skip_lf = False
            if data[:1] == b"\n":
                data = data[1:]
        buffer = self._rest + data
        if self._at_start:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._rest = buffer
                return []
            self._at_start = False
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
        lines = buffer.splitlines(keepends=True)
        self._rest = lines.pop() if lines and lines[-1][-1:] not in {b"\n", b"\r"} else b""
        self._skip_lf = bool(lines) and not self._rest and lines[-1][-1:] == b"\r"
        events: list[ServerSentEvent] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), events)
        return events

    def close(self) -> list[ServerSentEvent]:
        """End the stream.

        The standard drops an event that no empty line ended; a cut answer is worth keeping, so here
        it is delivered.

        Returns:
            The unfinished event, if it had data.
        """
        events: list[ServerSentEvent] = []
        if self._rest:
            self._take(self._rest, events)
            self._rest = b""
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if not line:
            if self._data:
                data = b"\n".join(self._data).decode("utf-8", "replace")
                event = self._event.decode("utf-8", "replace") or "message"
                events.append(ServerSentEvent(data, event))
            self._data, self._event = [], b""
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value


def encode_event(data: str | bytes, *, event: str | None = None) -> bytes:
    r"""Write one event.

    Args:
        data: the payload; a line break inside becomes a further data line.
        event: the event's type, or None for the default.

    Returns:
        The bytes, the ending empty line included.

    Example:
        >>> encode_event("[DONE]")
        b'data: [DONE]\n\n'
    """
    raw = data.encode() if isinstance(data, str) else data
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    head = b"" if event is None else b"event: " + event.encode() + b"\n"
    return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
