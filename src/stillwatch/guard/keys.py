"""Who asks: API keys known by their keyed hashes only, and the client's address.

The table at rest holds no key: `{"key_hash": ..., "account": ..., "org": ...}` a line. It can be
read by anyone who may know the accounts, and opens nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillwatch.errors import ConfigError
from stillwatch.record.disk import replace_lines
from stillwatch.record.privacy import KeyedHash

#: The kind under which keys are hashed.
KEY_KIND = "key"


class Principal(NamedTuple):
    """Whom a key belongs to.

    Attributes:
        account: the account.
        key_hash: keyed hash of the key.
        org: its organisation, or None.
    """

    account: str
    key_hash: str
    org: str | None = None


class Issued(NamedTuple):
    """A key as it was handed out; exists in plain only while a table is written.

    Attributes:
        account: the account that it was given to.
        api_key: the key itself.
        org: the account's organisation, or None.
    """

    account: str
    api_key: str
    org: str | None = None


class _Row(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    key_hash: str
    account: str
    org: str | None = None


class KeyTable:
    """Finds the account of a key.

    Args:
        hasher: the deployment's keyed hash.
        principals: key hash -> whom it belongs to; None accepts every key, and the key's hash
            stands for the account (for a gateway in front of one that checks keys itself).
    """

    def __init__(
        self, hasher: KeyedHash, principals: Mapping[str, Principal] | None = None
    ) -> None:
        # A client asks many questions with one key; the memory is bounded, whatever is tried.
        self._key_hashes = lru_cache(8192)(partial(hasher.hashes, KEY_KIND))
        self._principals = principals

    @classmethod
    def load(cls, path: Path | None, hasher: KeyedHash) -> KeyTable:
        """Read a table.

        Args:
            path: the file, one JSON object a line, or None to accept every key.
            hasher: the keyed hash that the table was written with; rows written under one of its
                previous keys are found too.

        Returns:
            The table.

        Raises:
            ConfigError: the file cannot be read, or a line is not a row of a key table.
        """
        if path is None:
            return cls(hasher)
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            message = f"{path}: the key table cannot be read: {error.strerror}"
            raise ConfigError(message) from error
        principals: dict[str, Principal] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=_Row)
            except msgspec.MsgspecError as error:
                message = f"{path}:{number}: not a row of a key table: {error}"
                hint = "each line is {key_hash, account, org}; write it with write_key_table"
                raise ConfigError(message, hint=hint) from error
            principals[row.key_hash] = Principal(row.account, row.key_hash, row.org)
        return cls(hasher, principals)

    def find(self, api_key: str) -> Principal | None:
        """Find whom a key belongs to.

        The table is looked up by a keyed hash, so timing tells nothing about other keys.

        Args:
            api_key: the key as the client sent it.

        Returns:
            Whom it belongs to, or None when nobody has it.
        """
        hashes = self._key_hashes(api_key)
        if self._principals is None:
            return Principal(f"key:{hashes[0]}", hashes[0])
        found = self._principals.get(hashes[0])
        if found is not None or len(hashes) == 1:
            return found
        # A row from before the last rotation; what is recorded of it is hashed under the new key.
        rows = (self._principals.get(former) for former in hashes[1:])
        found = next((row for row in rows if row is not None), None)
        return None if found is None else found._replace(key_hash=hashes[0])

    def __len__(self) -> int:
        return len(self._principals or ())


def write_key_table(path: Path, issued: Iterable[Issued], hasher: KeyedHash) -> int:
    """Write a key table; the keys themselves are hashed on the way and not kept.

    Args:
        path: the file to write; replaced as a whole.
        issued: the keys that were handed out.
        hasher: the deployment's keyed hash.

    Returns:
        Rows written (count).
    """
    rows = [_Row(hasher.hash(KEY_KIND, key), account, org) for account, key, org in issued]
    return replace_lines(path, rows)


def presented_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Read the key that a request carries, as bearer token or in `x-api-key` / `api-key`.

    Args:
        headers: the request's, names in lower case.

    Returns:
        The key, or None when there is none.
    """
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    key = token.strip() if scheme.lower() == b"bearer" else b""
    key = key or headers.get(b"x-api-key", b"") or headers.get(b"api-key", b"")
    return key.decode("latin-1") or None


def client_address(
    peer: str | None, headers: Mapping[bytes, bytes], *, trusted_hops: int
) -> str | None:
    """Tell the client's address.

    `x-forwarded-for` is written by whoever likes to; only its last `trusted_hops` entries were
    written by proxies of ours, and the first of these names the client.

    Args:
        peer: the address of the socket's other end.
        headers: the request's.
        trusted_hops: proxies of ours in front of the gateway (count); 0 reads no header.

    Returns:
        The address, or None when it is not known or no address.
    """
    address = peer
    if trusted_hops > 0:
        hops = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
        address = hops[-min(trusted_hops, len(hops))].strip() or peer
    return _normal(address) if address else None


@lru_cache(4096)
def _normal(address: str) -> str | None:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None
