"""Keyed hashing: accounts can be linked by what they share without that being kept.

An unkeyed hash of an address is no secret, because all addresses can be tried. A keyed one is, as
long as the key is kept apart from the record; who loses the key can no longer link new records to
old ones, and who throws it away has made the old ones anonymous. Keys are changed by writing the
new one in front of the old: new hashes are made under the first, old ones are still recognised.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Self

from stillwatch.errors import ConfigError, InvalidInputError, reject
from stillwatch.record.disk import from_os_error, replace_file

_MIN_KEY = 16  # bytes: 128 bits cannot be searched
_DIGITS = 24  # 96 bits: among 10 million values a collision has a chance of 1 in 10**15
#: The networks that one household or company usually has: what a provider routes to one customer.
_PREFIX = {4: 24, 6: 48}


class KeyedHash:
    """Hashes values under a secret key. Neither key nor values ever show in texts it makes.

    Args:
        key: at least 16 random bytes; every new hash is made under it.
        previous: keys that were in use before, newest first; hashes made under them are recognised.
    """

    __slots__ = ("_key", "_previous")

    def __init__(self, key: bytes, *, previous: Sequence[bytes] = ()) -> None:
        for each in (key, *previous):
            if len(each) < _MIN_KEY:
                _bad_key("KeyedHash", got=f"{len(each)} bytes")
        self._key = bytes(key)
        self._previous = tuple(bytes(each) for each in previous if each != key)

    @classmethod
    def generate(cls) -> Self:
        """Draw a new key from the system.

        Returns:
            A hash of its own, which links nothing to any other's.
        """
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_env(cls, name: str = "STILLWATCH_HASH_KEY") -> Self:
        """Read the key from the environment.

        Args:
            name: the variable; it holds hex digits, after them those of earlier keys, newest first,
                separated by commas or line ends.

        Returns:
            The hash under the first key.

        Raises:
            ConfigError: the variable is absent or not the hex of 16 bytes or more.
        """
        keys = _from_hex(os.environ.get(name), where=f"environment variable {name}")
        return cls(keys[0], previous=keys[1:])

    @classmethod
    def from_file(cls, path: Path, *, create: bool = False) -> Self:
        """Read the key from a file.

        Args:
            path: a file of hex digits, one key a line, the newest first.
            create: make the file, readable by its owner only, when it is absent.

        Returns:
            The hash under the first key.

        Raises:
            ConfigError: the file is absent or not the hex of 16 bytes or more.
            EnvironmentUnfitError: the file cannot be read or made.
        """
        try:
            if create:
                _create(path)
            text = path.read_text("ascii")
        except (FileNotFoundError, UnicodeDecodeError):
            text = None
        except OSError as error:
            raise from_os_error(error, path=path, doing="read the hash key") from error
        keys = _from_hex(text, where=str(path))
        return cls(keys[0], previous=keys[1:])

    def hash(self, kind: str, value: str) -> str:
        """Hash one value.

        Args:
            kind: what the value is: key, ip, network, ...; equal values of two kinds differ.
            value: the value itself.

        Returns:
            24 hex digits, the same for the same key, kind and value.
        """
        return _digest(self._key, kind, value)

    def hashes(self, kind: str, value: str) -> tuple[str, ...]:
        """Hash one value under every key, to look it up in a record older than the last rotation.

        Args:
            kind: as in `hash`.
            value: the value itself.

        Returns:
            Its hash as it is made now, then as it was made under each earlier key, newest first.
        """
        return tuple(_digest(key, kind, value) for key in (self._key, *self._previous))

    def recognises(self, hashed: str, *, kind: str, value: str) -> bool:
        """Tell whether a hash from the record is that of a value, under any of the keys.

        Args:
            hashed: the hash in the record.
            kind: as in `hash`.
            value: the value itself.

        Returns:
            True when it is; the time that it takes does not tell how nearly it is.
        """
        # A list, so that every key is tried: the time does not tell which one fitted either.
        tried = [
            hmac.compare_digest(hashed.encode("utf-8", "surrogatepass"), known.encode())
            for known in self.hashes(kind, value)
        ]
        return any(tried)

    @property
    def n_keys(self) -> int:
        """The keys whose hashes are recognised (count, 1 or more)."""
        return 1 + len(self._previous)

    def address(self, ip: str) -> str:
        """Hash a client address, however it is written.

        Args:
            ip: IPv4 or IPv6.

        Returns:
            24 hex digits.

        Raises:
            InvalidInputError: not an address.
        """
        return self.hash("ip", str(_address(ip)))

    def addresses(self, ip: str) -> tuple[str, ...]:
        """Hash a client address under every key, as `hashes` does.

        Args:
            ip: IPv4 or IPv6.

        Returns:
            As of `hashes`.

        Raises:
            InvalidInputError: not an address.
        """
        return self.hashes("ip", str(_address(ip)))

    def network(self, ip: str) -> str:
        """Hash the network of a client address.

        Args:
            ip: IPv4 or IPv6; an IPv4 address in IPv6 clothes counts as IPv4.

        Returns:
            24 hex digits, equal for all addresses of one /24 (IPv4) or /48 (IPv6).

        Raises:
            InvalidInputError: not an address.
        """
        return self.hash("network", _network(ip))

    def networks(self, ip: str) -> tuple[str, ...]:
        """Hash the network of a client address under every key, as `hashes` does.

        Args:
            ip: IPv4 or IPv6.

        Returns:
            As of `hashes`.

        Raises:
            InvalidInputError: not an address.
        """
        return self.hashes("network", _network(ip))

    def __repr__(self) -> str:
        return "KeyedHash(...)"


def rotate_key_file(path: Path, *, keep: int = 1) -> int:
    """Write a new key in front of the keys of a file, durably, or make the file.

    Hashes made from now on do not equal older ones: a log that spans the rotation links accounts by
    address within each side only. Processes go on with the keys that they have read.

    Args:
        path: as of `KeyedHash.from_file`; replaced as a whole, readable by its owner only.
        keep: earlier keys to keep (count); 0 makes all hashes so far anonymous for good.

    Returns:
        Keys in the file now (count).

    Raises:
        ConfigError: the file is not the hex of keys.
        EnvironmentUnfitError: the file cannot be read or written.
    """
    if keep < 0:
        reject("rotate_key_file", "keep", "0 or more", got=keep)
    path = Path(path)
    try:
        old = _from_hex(path.read_text("ascii"), where=str(path)) if path.exists() else []
        keys = [secrets.token_bytes(32), *old[:keep]]
        content = "".join(f"{key.hex()}\n" for key in keys).encode()
        replace_file(path, content, mode=0o600)
    except UnicodeDecodeError:
        _bad_key(str(path), got="other characters")
    except OSError as error:
        raise from_os_error(error, path=path, doing="rotate the hash key") from error
    return len(keys)


def _digest(key: bytes, kind: str, value: str) -> str:
    raw = b"\0".join((kind.encode(), value.encode("utf-8", "surrogatepass")))
    return hmac.digest(key, raw, "sha256").hex()[:_DIGITS]


def _network(ip: str) -> str:
    address = _address(ip)
    prefix = _PREFIX[address.version]
    network = int(address) >> (address.max_prefixlen - prefix)
    return f"{address.version}/{prefix}/{network:x}"


def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(ip.strip().partition("%")[0])
    except ValueError:
        # Not even in the error's context: the text may be an address with a slip in it.
        message = f"KeyedHash: ip must be an IPv4 or IPv6 address, got {len(ip)} characters"
        raise InvalidInputError(message) from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _create(path: Path) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32) + "\n")


def _from_hex(text: str | None, *, where: str) -> list[bytes]:
    if text is None:
        _bad_key(where, got="nothing")
    keys = []
    for word in [w for w in text.replace(",", "\n").splitlines() if w.strip()] or [""]:
        try:
            keys.append(bytes.fromhex(word))
        except ValueError:
            _bad_key(where, got=f"{len(word)} characters")
        if len(keys[-1]) < _MIN_KEY:
            _bad_key(where, got=f"{len(keys[-1])} bytes")
    return keys


def _bad_key(where: str, *, got: str) -> NoReturn:
    message = f"{where}: hash key must be at least {_MIN_KEY} bytes as hex digits, got {got}"
    raise ConfigError(message, hint="python -c 'import secrets; print(secrets.token_hex(32))'")
