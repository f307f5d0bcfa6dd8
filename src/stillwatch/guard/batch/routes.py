"""Which requests are about files and batches, and what each of them is."""

from __future__ import annotations

import posixpath
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from stillwatch.guard.batch.rows import Vendor

Noun = Literal["files", "uploads", "batches"]
_NOUNS: Final[dict[str, Noun]] = {"files": "files", "uploads": "uploads", "batches": "batches"}
#: Things that have files of their own, which are no uploads.
_OTHERS: Final = frozenset({"vector_stores", "containers", "threads", "assistants", "skills"})
_MOST_BEHIND: Final = 2  # an id, and what is asked of it


class Route(NamedTuple):
    """What a path names.

    Attributes:
        noun: files, uploads or batches.
        vendor: whose interface, by the path.
        object_id: the file's or batch's, or None for all of them.
        verb: content, results, cancel, ...; "" for the object itself.
        base: what stands before, without a slash at its end.
        segments: all parts of the path, as the client wrote them.
    """

    noun: Noun
    vendor: Vendor
    object_id: str | None
    verb: str
    base: str
    segments: tuple[str, ...]


@lru_cache(1024)
def route_of(path: str) -> Route | None:
    """Say what a path names, if it is about files or batches.

    Args:
        path: of the request, percent-encoding undone.

    Returns:
        The route; None for a path that is about something else.
    """
    names = [name for name in posixpath.normpath(path).split("/") if name]
    lowered = [name.lower() for name in names]
    for behind in range(min(_MOST_BEHIND + 1, len(names))):
        place = len(names) - 1 - behind
        noun = _NOUNS.get(lowered[place])
        if noun is None or _OTHERS & set(lowered[:place]):
            continue
        is_messages = noun == "batches" and lowered[place - 1 : place] == ["messages"]
        tail = [*names[place + 1 :], "", ""]
        return Route(
            noun,
            "anthropic" if is_messages else "openai",
            tail[0] or None,
            tail[1].lower(),
            "".join(f"/{name}" for name in names[:place]),
            tuple(names),
        )
    return None
