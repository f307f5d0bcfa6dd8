"""Keyed hashing: accounts can be linked by what they share without that being kept.

An unkeyed hash of an address is no secret, because all addresses can be tried. A keyed one is, as
long as the key is kept apart from the record; who loses the key can no longer link new records to
old ones, and who throws it away has made the old ones anonymous.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from pathlib import Path
from typing import NoReturn, Self

from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.record.segments import from_os_error

_MIN_KEY = 16  # bytes: 128 bits cannot be searched
_DIGITS = 24  # 96 bits: among 10 million values a collision has a chance of 1 in 10**15
#: The networks that one household or company usually has: what a provider routes to one customer.
_PREFIX = {4: 24, 6: 48}


class KeyedHash:
    """Hashes values under one secret key. Neither key nor values ever show in texts it makes.

    Args:
        key: at least 16 random bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_KEY:
            _bad_key("KeyedHash", got=f"{len(key)} bytes")
        self._key = bytes(key)

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
            name: the variable; it holds hex digits.

        Returns:
            The hash under that key.

        Raises:
            ConfigError: the variable is absent or not the hex of 16 bytes or more.
        """
        return cls(_from_hex(os.environ.get(name), where=f"environment variable {name}"))

    @classmethod
    def from_file(cls, path: Path, *, create: bool = False) -> Self:
        """Read the key from a file.

        Args:
            path: a file of hex digits.
            create: make the file, readable by its owner only, when it is absent.

        Returns:
            The hash under that key.

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
        return cls(_from_hex(text, where=str(path)))

    def hash(self, kind: str, value: str) -> str:
        """Hash one value.

        Args:
            kind: what the value is: key, ip, network, ...; equal values of two kinds differ.
            value: the value itself.

        Returns:
            24 hex digits, the same for the same key, kind and value.
        """
        raw = b"\0".join((kind.encode(), value.encode("utf-8", "surrogatepass")))
        return hmac.digest(self._key, raw, "sha256").hex()[:_DIGITS]

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

    def network(self, ip: str) -> str:
        """Hash the network of a client address.

        Args:
            ip: IPv4 or IPv6; an IPv4 address in IPv6 clothes counts as IPv4.

        Returns:
            24 hex digits, equal for all addresses of one /24 (IPv4) or /48 (IPv6).

        Raises:
            InvalidInputError: not an address.
        """
        address = _address(ip)
        prefix = _PREFIX[address.version]
        network = int(address) >> (address.max_prefixlen - prefix)
        return self.hash("network", f"{address.version}/{prefix}/{network:x}")

    def __repr__(self) -> str:
        return "KeyedHash(...)"


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


def _from_hex(text: str | None, *, where: str) -> bytes:
    if text is None:
        _bad_key(where, got="nothing")
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        _bad_key(where, got=f"{len(text)} characters")
    if len(key) < _MIN_KEY:
        _bad_key(where, got=f"{len(key)} bytes")
    return key


def _bad_key(where: str, *, got: str) -> NoReturn:
    message = f"{where}: hash key must be at least {_MIN_KEY} bytes as hex digits, got {got}"
    raise ConfigError(message, hint="python -c 'import secrets; print(secrets.token_hex(32))'")
