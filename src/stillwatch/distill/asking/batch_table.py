"""How batches are sent and awaited."""

from __future__ import annotations

import msgspec

from stillwatch.errors import reject


class BatchTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How batches are sent and awaited.

    Attributes:
        rows: questions in a batch, at most (count); the vendor's limit if that is less.
        megabytes: of a batch, at most; the vendor's limit if that is less.
        at_once: batches under way at once, at most (count).
        first_look_s: after which a batch is looked at first (seconds); half as long again for each
            next look that finds nothing new.
        longest_look_s: the longest time between two looks.
        search_s: how long to wait before looking for a batch whose id never came back (seconds).
    """

    rows: int = 50_000
    megabytes: float = 190.0
    at_once: int = 8
    first_look_s: float = 10.0
    longest_look_s: float = 300.0
    search_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what lets nothing through."""
        for name in ("rows", "at_once"):
            if getattr(self, name) < 1:
                reject("[batch]", name, "at least 1", got=getattr(self, name))
        for name in ("megabytes", "first_look_s", "longest_look_s"):
            if not getattr(self, name) > 0:
                reject("[batch]", name, "above 0", got=getattr(self, name))
