"""How much of an exchange the gateway keeps, and what the end of an answer waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import msgspec

from stillwatch.errors import reject
from stillwatch.logs.bodies import without_bodies
from stillwatch.logs.reader import ReadOptions
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash

#: Texts whole; every word hashed; none.
KeptBodies = Literal["full", "hash", "drop"]
#: The end of an answer leaves when the system has its exchange (a killed gateway loses none), when
#: the disk has it (nor does a machine without power), or before either.
Acknowledge = Literal["written", "synced", "sent"]
#: Tag of a row whose texts were to be kept, and could not.
DROPPED_TAG: Final = "bodies"


@dataclass(frozen=True)
class RecordConfig:
    """What is kept of an exchange.

    Attributes:
        bodies: texts in full, as hashes of their words, or not at all; accounts whose campaign is
            to be logged fully are kept in full whatever stands here.
        acknowledge: when the end of an answer leaves: once its exchange is written (the system has
            it), synced (the disk has it), or sent at once.
        wait_s: longest that the end of an answer waits for that; a disk that hangs holds nobody up
            for longer, and is counted.
    """

    bodies: KeptBodies = "full"
    acknowledge: Acknowledge = "written"
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        known: tuple[tuple[str, Any], ...] = (
            ("bodies", KeptBodies),
            ("acknowledge", Acknowledge),
        )
        for name, values in known:
            if getattr(self, name) not in get_args(values):
                rule = "one of " + ", ".join(get_args(values))
                reject("guard.record", name, rule, got=getattr(self, name))
        if self.wait_s < 0:
            reject("guard.record", "wait_s", "at least 0", got=self.wait_s)


class Keeping:
    """Takes from an exchange what is not to be kept.

    Args:
        bodies: what becomes of texts.
        hasher: hashes words.
    """

    def __init__(self, bodies: KeptBodies, hasher: KeyedHash) -> None:
        self._options = None
        if bodies != "full":
            self._options = ReadOptions(hasher, bodies=bodies)
        self._none = ReadOptions(hasher, bodies="drop")

    def keep(self, exchange: Exchange, *, whole: bool) -> Exchange:
        """Apply the choice.

        Args:
            exchange: as it happened.
            whole: keep this one in full.

        Returns:
            What is recorded.
        """
        if self._options is None or whole:
            return exchange
        return without_bodies(exchange, self._options)

    def thin(self, exchange: Exchange) -> Exchange:
        """Drop the texts for want of room; what is left says so.

        Args:
            exchange: as it would be recorded.

        Returns:
            Who, when, which model, how many tokens and what was done, tagged.
        """
        bare = without_bodies(exchange, self._none)
        tags = exchange.tags | {DROPPED_TAG: "dropped"}
        return msgspec.structs.replace(bare, tags=tags)
