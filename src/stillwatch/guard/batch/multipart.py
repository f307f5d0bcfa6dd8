"""Reads a multipart form as it passes by: the bytes of its file, and its short fields.

It only looks. Whatever it makes of a form, the model server gets the client's own bytes; so where
the two could read differently (two files, no end, a head that is too long) it says `is_doubtful`,
and the file is read again from the model server before anything is decided by it.
"""

from __future__ import annotations

import re
from typing import Final, Literal

_HEAD_BYTES: Final = 16 * 1024
_FIELD_BYTES: Final = 4 * 1024
_MOST_FIELDS: Final = 64
_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_NAME: Final = re.compile(rb'[;\s]name=(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
_IS_FILE: Final = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


def boundary_of(content_type: bytes) -> bytes | None:
    """Find the boundary between the parts of a form.

    Args:
        content_type: the request's header line.

    Returns:
        The boundary, or None when this is no multipart form.
    """
    if not content_type.lower().lstrip().startswith(b"multipart/form-data"):
        return None
    found = _BOUNDARY.search(content_type)
    return (found[1] or found[2]) if found else None


class FormReader:
    """Reads one form piece by piece.

    Args:
        boundary: between its parts.

    Attributes:
        fields: the short fields by name.
        has_ended: the closing boundary came.
        is_doubtful: another reader might read this form in another way.
    """

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"\r\n--" + boundary
        # The first boundary may stand at the very beginning, without a line end before it.
        self._held = b"\r\n"
        self._at: Literal["before", "mark", "head", "file", "field", "end"] = "before"
        self._name = ""
        self._value = b""
        self._n_files = 0
        self.fields: dict[str, str] = {}
        self.has_ended = False
        self.is_doubtful = False

    def feed(self, chunk: bytes) -> bytes:
        """Read the next piece.

        Args:
            chunk: the next bytes of the body, cut anywhere.

        Returns:
            The bytes of the form's file that it brought.
        """
        self._held += chunk
        found: list[bytes] = []
        while self._step(found):
            pass
        return b"".join(found)

    def _step(self, found: list[bytes]) -> bool:
        """Go on as far as the held bytes reach; says whether there may be more in them."""
        if self._at == "end":
            self._held = b""
            return False
        if self._at == "mark":
            return self._after_mark()
        if self._at == "head":
            return self._head()
        place = self._held.find(self._mark)
        # Without a boundary in sight, all but what may be its beginning is content.
        end = place if place >= 0 else max(0, len(self._held) - len(self._mark) + 1)
        self._content(self._held[:end], found)
        if place < 0:
            self._held = self._held[end:]
            return False
        self._held = self._held[place + len(self._mark) :]
        if self._at == "field":
            self.fields[self._name] = self._value.decode("utf-8", "replace")
        self._at = "mark"
        return True

    def _content(self, piece: bytes, found: list[bytes]) -> None:
        if self._at == "file":
            found.append(piece)
        elif self._at == "field":
            self._value += piece
            if len(self._value) > _FIELD_BYTES:
                self._value = self._value[:_FIELD_BYTES]
                self.is_doubtful = True

    def _after_mark(self) -> bool:
        if len(self._held) < 2:
            return False
        if self._held.startswith(b"--"):
            self._at, self.has_ended = "end", True
            return True
        line, ended, rest = self._held.partition(b"\r\n")
        if line.strip() or (not ended and len(line) > _HEAD_BYTES):
            # What follows a boundary is a line end; other readers may take this for content.
            self.is_doubtful = True
        if not ended:
            return False
        # The line end stays: a head may be empty.
        self._held, self._at = b"\r\n" + rest, "head"
        return True

    def _head(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if max(end, len(self._held) if end < 0 else 0) > _HEAD_BYTES:
            self._at, self.is_doubtful = "end", True
        if end < 0 or self.is_doubtful:
            return self._at == "end" and bool(self._held)
        head, self._held = self._held[:end], self._held[end + 4 :]
        name = _NAME.search(head)
        self._name = (name[1] or name[2] or b"").decode("utf-8", "replace") if name else ""
        self._value = b""
        if self._name == "file" or _IS_FILE.search(head):
            self._n_files += 1
            self._at = "file"
            self.is_doubtful |= self._n_files > 1 or self._name != "file"
            if b"content-transfer-encoding" in head.lower():
                self.is_doubtful = True
        else:
            self._at = "field"
            self.is_doubtful |= self._name in self.fields or len(self.fields) >= _MOST_FIELDS
        return True
