"""The order of all changes to the verdict table: a log in Redis that every gateway applies.

A change is what was done to a table, statement by statement. All gateways apply the same changes in
the same order, so their tables are the same. A gateway that lacks too many takes a snapshot. Who
appends must have seen everything before: Redis compares the number that it expects to be next.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from stillwatch.errors import RecordError
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import octets, translated
from stillwatch.guard.shared.seal import Seal
from stillwatch.guard.wall.table import Steps

if TYPE_CHECKING:
    import redis

#: Changes that stay behind the snapshot before a new one is made: a learning writes one.
MOST_CHANGES: Final = 128

# KEYS: log, head, lease. ARGV: id, place expected, sealed change, lease token or "".
# Gives 1 when appended, 0 when others were faster, -1 when the lease is another's now.
_APPEND: Final = """
if ARGV[4] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[4] then return -1 end
local head = redis.call('HMGET', KEYS[2], 'id', 'base')
if head[1] ~= ARGV[1] then return 0 end
if tonumber(head[2]) + redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[3])
return 1
"""

# KEYS: log, head. ARGV: place. Gives id, base, end, and the changes behind the place.
_READ: Final = """
local head = redis.call('HMGET', KEYS[2], 'id', 'base')
if not head[1] then return {} end
local base, place = tonumber(head[2]), tonumber(ARGV[1])
local last = base + redis.call('LLEN', KEYS[1])
if place < base or place > last then return {head[1], base, last} end
local first = place - base
return {head[1], base, last, unpack(redis.call('LRANGE', KEYS[1], first, first + 999))}
"""

# KEYS: log, head, snapshot. ARGV: id, place, sealed snapshot, id that must stand there or "".
# Puts a snapshot in the place of the changes before it; gives 1 when done.
_SNAPSHOT: Final = """
local head = redis.call('HMGET', KEYS[2], 'id', 'base')
local place = tonumber(ARGV[2])
if (head[1] or '') ~= ARGV[4] then return 0 end
if head[1] then
  local base = tonumber(head[2])
  if place < base then return 0 end
  if place >= base + redis.call('LLEN', KEYS[1]) then redis.call('DEL', KEYS[1])
  else redis.call('LTRIM', KEYS[1], place - base, -1) end
end
redis.call('SET', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[2], 'id', ARGV[1], 'base', place)
return 1
"""

_decode_steps = msgspec.msgpack.Decoder(Steps).decode


class Known(NamedTuple):
    """What the log holds behind a place.

    Attributes:
        log_id: the log's own id, or None when there is no log yet.
        base: place of the snapshot.
        last: place behind the newest change.
        changes: those behind the place asked for, in order; None when it lies before the snapshot
            or after the end, and a snapshot must be taken.
    """

    log_id: str | None
    base: int
    last: int
    changes: tuple[Steps, ...] | None


class ChangeLog:
    """The log as one gateway sees it.

    Args:
        client: that blocks.
        config: names the prefix.
        seal: of the gateways.
    """

    def __init__(self, client: redis.Redis, config: SharedConfig, seal: Seal) -> None:
        self._client = client
        self._seal = seal
        self._log, self._head = config.key("changes"), config.key("changes", "head")
        self._snapshot, self.lease_key = config.key("changes", "snapshot"), config.key("lease")
        self._append = client.register_script(_APPEND)
        self._read = client.register_script(_READ)
        self._put = client.register_script(_SNAPSHOT)

    def read(self, place: int) -> Known:
        """Read what came behind a place.

        Args:
            place: changes that the reader has applied (count), snapshot included.

        Returns:
            What is there; of very many changes the first thousand.

        Raises:
            EnvironmentUnfitError: Redis is away.
            RecordError: a change was not written by one of these gateways.
        """
        with translated("read shared verdicts"):
            found = self._read(keys=[self._log, self._head], args=[place])
        if not found:
            return Known(None, 0, 0, ())
        log_id, base, last = (
            octets(found[0]).decode("ascii", "replace"),
            int(found[1]),
            int(found[2]),
        )
        if not base <= place <= last:
            return Known(log_id, base, last, None)
        changes = tuple(
            _steps_of(self._seal.open(_title(log_id, place + n), octets(raw)))
            for n, raw in enumerate(found[3:])
        )
        return Known(log_id, base, last, changes)

    def append(self, log_id: str, place: int, steps: Steps, *, lease: str = "") -> bool:
        """Append a change, if nothing else came since.

        Args:
            log_id: the log's.
            place: changes that the writer has applied.
            steps: the change.
            lease: the writer's token, when only the holder of the lease may write.

        Returns:
            True when it is in; False when the writer must read first.

        Raises:
            EnvironmentUnfitError: Redis is away; the change may be in.
            RecordError: the lease is another gateway's now.
        """
        sealed = self._seal.close(_title(log_id, place), msgspec.msgpack.encode(steps))
        with translated("share a verdict"):
            done = int(
                self._append(
                    keys=[self._log, self._head, self.lease_key],
                    args=[log_id, place, sealed, lease],
                )
            )
        if done < 0:
            message = "shared: another gateway finds campaigns now; what this one found is dropped"
            raise RecordError(message, hint="nothing is lost: profiles are shared")
        return done == 1

    def begin(self, place: int, image: bytes) -> str | None:
        """Begin a log with a table as it is.

        Args:
            place: its generation.
            image: of the table.

        Returns:
            The log's new id, or None when another gateway was faster.

        Raises:
            EnvironmentUnfitError: Redis is away.
        """
        log_id = secrets.token_hex(8)
        return log_id if self._save(log_id, place, image, replaces="") else None

    def shorten(self, log_id: str, place: int, image: bytes) -> bool:
        """Put a snapshot in the place of the changes up to it.

        A log that ends before the place, because Redis came back with an old state, goes on from
        the snapshot.

        Args:
            log_id: the log's.
            place: the table's generation.
            image: of the table.

        Returns:
            True when done.

        Raises:
            EnvironmentUnfitError: Redis is away.
        """
        return self._save(log_id, place, image, replaces=log_id)

    def snapshot(self, log_id: str) -> tuple[int, bytes]:
        """Read the snapshot.

        Args:
            log_id: the log's.

        Returns:
            The place that it stands for, and the table's image.

        Raises:
            EnvironmentUnfitError: Redis is away.
            RecordError: there is none, or it was not written by one of these gateways.
        """
        with translated("read shared verdicts"):
            raw = self._client.get(self._snapshot)
        if raw is None:
            message = "shared: the snapshot of the verdicts is gone"
            raise RecordError(message, hint="Redis must not evict: maxmemory-policy noeviction")
        content = self._seal.open(f"snapshot {log_id}", octets(raw))
        return int.from_bytes(content[:8], "little"), content[8:]

    def _save(self, log_id: str, place: int, image: bytes, *, replaces: str) -> bool:
        content = place.to_bytes(8, "little") + image
        sealed = self._seal.close(f"snapshot {log_id}", content)
        with translated("share the verdicts"):
            done = self._put(
                keys=[self._log, self._head, self._snapshot],
                args=[log_id, place, sealed, replaces],
            )
        return int(done) == 1


def _title(log_id: str, place: int) -> str:
    return f"change {log_id} {place}"


def _steps_of(content: bytes) -> Steps:
    try:
        return _decode_steps(content)
    except msgspec.DecodeError as error:
        message = "shared: a change of the verdicts cannot be read by this version"
        raise RecordError(message, hint="run one version on all gateways") from error
