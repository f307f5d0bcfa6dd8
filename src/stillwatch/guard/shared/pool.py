"""Profiles that gateways put together: a part for every gateway and day.

A part is put up whole or not at all, and replaces the part of the same gateway and day. It stays
for its days whether the gateway lives or not; a gateway that comes back puts up the same parts
again, so nothing counts twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.levels import blank_texts
from stillwatch.detect.profiles.merge import merge_all
from stillwatch.detect.profiles.probe import Probe, probe_of
from stillwatch.detect.profiles.profile import Profiles, no_profiles
from stillwatch.detect.profiles.tables import pack, unpack
from stillwatch.errors import RecordError
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import octets, translated
from stillwatch.guard.shared.seal import Seal

if TYPE_CHECKING:
    import redis

#: Bytes of a value: Redis serves nobody else while it takes one in.
_PIECE: Final = 4 * 2**20
_DAY_S: Final = 86_400


class PartHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a part without reading it.

    Attributes:
        gateway: who folded it.
        day: days since 1970-01-01 that it speaks of.
        version: names its pieces.
        n_pieces: how many.
        n_exchanges: exchanges folded (count).
        probe: what folding a made-up exchange gives where it was folded.
        config: how it was folded.
    """

    gateway: str
    day: int
    version: str
    n_pieces: int
    n_exchanges: int
    probe: Probe
    config: FoldConfig


class Gathered(NamedTuple):
    """What other gateways have folded.

    Attributes:
        profiles: of all of them, merged.
        gateways: id -> exchanges folded (count).
        n_unfit: parts that were folded otherwise or are damaged, and are left out (count).
    """

    profiles: Profiles
    gateways: Mapping[str, int]
    n_unfit: int


class ProfilePool:
    """The parts as one gateway's learner sees them.

    Args:
        client: that blocks.
        config: names the prefix, and how long parts stay.
        seal: of the gateways.
        gateway: this one's id.
        fold: how profiles are folded.
    """

    def __init__(
        self,
        client: redis.Redis,
        config: SharedConfig,
        *,
        seal: Seal,
        gateway: str,
        fold: FoldConfig,
    ) -> None:
        self._client, self._config, self._seal = client, config, seal
        self._gateway, self._fold = gateway, fold
        self._index = config.key("parts")
        # Parts of others as read last; a day that is over is read once.
        self._read: dict[str, tuple[str, Profiles]] = {}

    def days(self) -> frozenset[int]:
        """List the days of which this gateway's part is there.

        Returns:
            Days since 1970-01-01.

        Raises:
            EnvironmentUnfitError: Redis is away.
        """
        with translated("read shared profiles"):
            names = [octets(name).decode() for name in self._client.hkeys(self._index)]
            mine = [name for name in names if name.startswith(f"{self._gateway} ")]
            there = [name for name in mine if self._client.exists(self._config.key("part", name))]
        return frozenset(int(name.rpartition(" ")[2]) for name in there)

    def push(self, day: int, profiles: Profiles, *, now: float) -> bool:
        """Put up what this gateway has folded of a day, in the place of what it put up before.

        Args:
            day: days since 1970-01-01.
            profiles: everything folded of that day.
            now: UTC epoch seconds.

        Returns:
            False when the day is so long ago that it would be gone at once.

        Raises:
            EnvironmentUnfitError: Redis is away or full.
        """
        lasts_s = int((day + 1) * _DAY_S + self._config.keep_days * _DAY_S - now)
        if lasts_s <= 0:
            return False
        version, name = secrets.token_hex(8), self._name(self._gateway, day)
        payload = pack(self._told(profiles))
        pieces = [payload[at : at + _PIECE] for at in range(0, len(payload), _PIECE)]
        head = PartHead(
            gateway=self._gateway, day=day, version=version, n_pieces=len(pieces),
            n_exchanges=profiles.n_exchanges, probe=probe_of(self._fold), config=self._fold,
        )  # fmt: skip
        sealed = self._seal.close(f"part {name}", msgspec.msgpack.encode(head))
        with translated("share profiles"):
            before = self._client.get(self._config.key("part", name))
            for number, piece in enumerate(pieces):
                content = self._seal.close(f"piece {version} {number}", piece)
                self._client.set(self._piece(version, number), content, ex=lasts_s)
            self._client.set(self._config.key("part", name), sealed, ex=lasts_s)
            self._client.hset(self._index, name, str(int(now)))
        self._drop(name, before)
        return True

    def take_down(self, day: int) -> None:
        """Take this gateway's part of a day away: its book speaks of it no more.

        Args:
            day: days since 1970-01-01.

        Raises:
            EnvironmentUnfitError: Redis is away.
        """
        name = self._name(self._gateway, day)
        with translated("take profiles down"):
            before = self._client.get(self._config.key("part", name))
            self._client.delete(self._config.key("part", name))
            self._client.hdel(self._index, name)
        self._drop(name, before)

    def gather(self) -> Gathered:
        """Read what the others have put up.

        Returns:
            It, merged.

        Raises:
            EnvironmentUnfitError: Redis is away.
        """
        with translated("read shared profiles"):
            names = sorted(octets(name).decode() for name in self._client.hkeys(self._index))
        gateways: dict[str, int] = {}
        known, n_unfit, self._read = self._read, 0, {}
        for name in names:
            if name.startswith(f"{self._gateway} "):
                continue
            try:
                found = self._part(name, known)
            except RecordError:
                try:  # it may have been replaced while it was read
                    found = self._part(name, known)
                except RecordError:
                    n_unfit += 1
                    continue
            if found is not None:
                head, profiles = found
                self._read[name] = (head.version, profiles)
                gateways[head.gateway] = gateways.get(head.gateway, 0) + head.n_exchanges
        parts = [profiles for _, profiles in self._read.values()]
        whole = merge_all(parts, self._fold) if parts else no_profiles()
        return Gathered(whole, gateways, n_unfit)

    def _part(
        self, name: str, known: Mapping[str, tuple[str, Profiles]]
    ) -> tuple[PartHead, Profiles] | None:
        with translated("read shared profiles"):
            raw = self._client.get(self._config.key("part", name))
            if raw is None:  # its days are over
                self._client.hdel(self._index, name)
                return None
        head = self._head(name, octets(raw))
        version, profiles = known.get(name, ("", no_profiles()))
        if version == head.version:
            return head, profiles
        return head, self._profiles(head)

    def _head(self, name: str, raw: bytes) -> PartHead:
        content = self._seal.open(f"part {name}", raw)
        try:
            head = msgspec.msgpack.decode(content, type=PartHead)
        except msgspec.DecodeError as error:
            message = "shared: a gateway's profiles are of another version"
            raise RecordError(message, hint="run one version on all gateways") from error
        if not self._is_alike(head):
            message = "shared: a gateway folds with other settings or another version"
            raise RecordError(message, hint="run one version on all gateways")
        return head

    def _is_alike(self, head: PartHead) -> bool:
        mine, theirs = (
            msgspec.structs.replace(config, memory_bytes=1) for config in (self._fold, head.config)
        )
        return mine == theirs and head.probe.is_like(probe_of(self._fold))

    def _profiles(self, head: PartHead) -> Profiles:
        pieces = []
        for number in range(head.n_pieces):
            with translated("read shared profiles"):
                raw = self._client.get(self._piece(head.version, number))
            if raw is None:
                message = "shared: a part of a gateway's profiles is gone"
                raise RecordError(message, hint="it is put up again with its next learning")
            pieces.append(self._seal.open(f"piece {head.version} {number}", octets(raw)))
        return unpack(b"".join(pieces))

    def _told(self, profiles: Profiles) -> Profiles:
        if self._config.excerpts:
            return profiles
        blank = blank_texts(len(profiles.digests.key))
        return profiles._replace(digests=profiles.digests._replace(excerpt=blank))

    def _drop(self, name: str, raw: object) -> None:
        """Take the pieces of an older version away; those of a foreign one have their time."""
        if not isinstance(raw, bytes):
            return
        try:
            head = msgspec.msgpack.decode(self._seal.open(f"part {name}", raw), type=PartHead)
        except (RecordError, msgspec.DecodeError):
            return
        with translated("share profiles"):
            for key in self._pieces(head):
                self._client.delete(key)

    def _pieces(self, head: PartHead) -> Iterator[str]:
        return (self._piece(head.version, number) for number in range(head.n_pieces))

    def _name(self, gateway: str, day: int) -> str:
        return f"{gateway} {day}"

    def _piece(self, version: str, number: int) -> str:
        return self._config.key("piece", version, str(number))
