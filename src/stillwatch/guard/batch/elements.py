"""Finds the elements of one array in a JSON body that is too long to be held in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import mmap
from typing import Final, NamedTuple

import msgspec

#: Up to the next bracket, strings skipped as a whole: one step a bracket, not a byte. Possessive
#: and with bounds, so that no body makes one step long, or one that must be taken back.
_NEXT: Final = re.compile(
    rb'[^"{}\[\]]{0,65536}+'
    rb'(?:"[^"\\]{0,65536}+(?:\\.[^"\\]{0,65536}+){0,64}+"[^"{}\[\]]{0,65536}+){0,64}+'
    rb"([{}\[\]])?+",
    re.DOTALL,
)
_IN_STRING: Final = re.compile(rb'(?:[^"\\]{1,65536}+|\\.)', re.DOTALL)
_KEY: Final = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*$', re.DOTALL)
_MOST_KEY: Final = 512  # bytes looked back at for the key of an array


class Element(NamedTuple):
    """Where an element lies.

    Attributes:
        place: of its first byte.
        length: bytes.
    """

    place: int
    length: int


def elements(body: bytes | mmap, key: str) -> Iterator[Element]:
    """Find the objects in the array that the top object has under a key.

    It finds brackets and does not check the rest: what is no JSON is the reader's to refuse.

    Args:
        body: the JSON text.
        key: the array's.

    Yields:
        Elements that are objects, in order; a key that comes twice counts twice.
    """
    depth, begun = 0, 0
    inside = False
    for place, bracket in _brackets(body):
        if bracket in b"{[":
            depth += 1
            if depth == 2 and bracket == b"[":
                inside = _is_key(bytes(body[max(0, place - _MOST_KEY) : place]), key)
            elif depth == 3 and inside:
                begun = place
        else:
            if depth == 3 and inside and bracket == b"}":
                yield Element(begun, place + 1 - begun)
            depth -= 1
            if depth == 1:
                inside = False


def _brackets(body: bytes | mmap) -> Iterator[tuple[int, bytes]]:
    """Find the brackets outside of strings, in order, with their places."""
    place, size = 0, len(body)
    while place < size:
        found = _NEXT.match(body, place)
        assert found is not None, "matches nothing at least"
        if found[1] is not None:
            yield found.end() - 1, found[1]
        place = found.end() if found.end() > place else _past_string(body, place)


def _past_string(body: bytes | mmap, place: int) -> int:
    """Step over a string that is too long for one step; gives the place behind it."""
    place += 1
    while (found := _IN_STRING.match(body, place)) is not None:
        place = found.end()
    return place + 1


def _is_key(before: bytes, key: str) -> bool:
    """Say whether an array's key stands before it, however it is escaped."""
    found = _KEY.search(before)
    if found is None:
        return False
    try:
        return bool(msgspec.json.decode(found[1]) == key)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
