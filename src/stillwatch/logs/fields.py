"""Fields of logs: times, texts, counts, addresses, conversations, each read by one rule everywhere.

Readers leave texts whole: `stillwatch.logs.bodies` hashes or drops them afterwards, for all formats
alike. What must never stay (keys, addresses, e-mails) goes through `hashed`, `network` or
`account_of` inside the reader.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from stillwatch.errors import InvalidInputError
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.turns import (
    answers_from_openai,
    decoded,
    extra_of,
    hash_tools,
    messages_from_openai,
    sampling,
    text,
    text_of,
)
from stillwatch.record.privacy import KeyedHash

__all__ = [
    "Network", "account_of", "answers_from_openai", "decoded", "epoch", "extra_of", "first_text",
    "flag", "hash_tools", "hashed", "malformed", "messages_from_openai", "network", "number",
    "record_of", "sampling", "text", "text_of", "tokens",
]  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLF_TIME = re.compile(
    r"\[?(\d{1,2})/([A-Za-z]{3})/(\d{4}):(\d\d):(\d\d):(\d\d)(?: ([+-])(\d\d):?(\d\d))?\]?"
)
_ZONE_NAME = re.compile(r"\s*(?:UTC|GMT|Z)$")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SECRET = re.compile(r"(?:Bearer\s+)?(?:sk|pk|rk)-[A-Za-z0-9_\-]{12,}")
#: Above these a number of seconds since 1970 is one of milli-, micro- or nanoseconds: read as
#: seconds it would lie after the year 5138, read in the next finer unit after March 1973.
_MILLIS, _MICROS, _NANOS = 1e11, 1e14, 1e17


class Network(NamedTuple):
    """A client address, hashed.

    Attributes:
        ip_hash: keyed hash of the whole address, or None.
        network_hash: keyed hash of its /24 or /48, or None.
    """

    ip_hash: str | None
    network_hash: str | None


def epoch(value: object, *, options: ReadOptions) -> float | None:
    """Read a time however it is written.

    Args:
        value: ISO 8601 with or without zone, an access log's `31/Jan/2025:10:00:00 +0100`, a date
            object, or a number (or its text) of seconds, milli-, micro- or nanoseconds since 1970,
            told apart by size.
        options: its `timezone_offset_s` goes to times that name no zone.

    Returns:
        UTC epoch seconds; None for what is no time: absent, not finite, or not after 1970 (loggers
        write zero times for unknown ones).

    Example:
        >>> from stillwatch.record.privacy import KeyedHash
        >>> epoch("2025-01-31T10:00:00Z", options=ReadOptions(KeyedHash(bytes(32))))
        1738317600.0
    """
    if isinstance(value, str):
        value = _written_time(value.strip(), options)
    elif isinstance(value, datetime):
        value = _stamp(value, options)
    elif isinstance(value, date):
        value = _stamp(datetime(value.year, value.month, value.day), options)  # noqa: DTZ001 - zone follows
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    seconds = float(value) if -1e30 < value < 1e30 else math.inf  # False for NaN too
    if not math.isfinite(seconds) or seconds <= 0:
        return None
    if seconds < _MILLIS:
        return seconds
    if seconds < _MICROS:
        return seconds / 1e3
    return seconds / 1e6 if seconds < _NANOS else seconds / 1e9


def tokens(value: object) -> int | None:
    """Read a count of tokens.

    Args:
        value: a whole number, also as a float or as text (CSV).

    Returns:
        The count; None for what is none: absent, negative, broken, or no number.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text.isdecimal():
            return tokens(number(text))
        value = int(text) if len(text) < 20 else -1
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if not 0 <= value < 2**63 or value != int(value):
        return None
    return int(value)


def number(value: object) -> float | None:
    """Read a finite number, also from text.

    Args:
        value: anything.

    Returns:
        The number, or None.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def flag(value: object) -> bool:
    """Read a yes or no, also from text (CSV).

    Args:
        value: anything.

    Returns:
        True for true, 1, "true", "True", "t", "yes", "1"; else False.
    """
    if isinstance(value, str):
        return value.strip().lower() in {"true", "t", "yes", "y", "1"}
    return value is True or value == 1


def first_text(*values: object) -> str | None:
    """Take the first text that says something.

    Args:
        *values: candidates, best first.

    Returns:
        The first for which `text` is not None, or None.
    """
    return next((found for value in values if (found := text(value)) is not None), None)


def record_of(record: object, *, origin: Origin, wanted: str) -> Mapping[str, Any]:
    """Take a record that must be an object.

    Args:
        record: as decoded.
        origin: where it stood.
        wanted: what a record of the format is, to follow "must be".

    Returns:
        The record.

    Raises:
        InvalidInputError: it is no object.
    """
    if not isinstance(record, Mapping):
        malformed(origin, wanted, got=type(record).__name__)
    return record


def malformed(origin: Origin, wanted: str, *, got: str) -> NoReturn:
    """Refuse a record; it is quarantined with its file and line.

    Args:
        origin: where it stood.
        wanted: what it must be, to follow "must be".
        got: what it is, in words; never a value, which may be somebody's text.

    Raises:
        InvalidInputError: always.
    """
    message = f"{origin}: record must be {wanted}, got {got}"
    raise InvalidInputError(message)


def hashed(options: ReadOptions, kind: str, value: object) -> str | None:
    """Hash what must not stay.

    Args:
        options: holds the key.
        kind: key, email, payment, ...; equal values of two kinds differ.
        value: the value, or nothing.

    Returns:
        24 hex digits, or None for nothing.
    """
    found = text(value)
    return None if found is None else _hash(options.keyed_hash, kind, found)


def network(options: ReadOptions, ip: object) -> Network:
    """Hash a client address.

    Args:
        options: holds the key.
        ip: an address, also with a port; of a chain (`X-Forwarded-For`) the first counts.

    Returns:
        The hashes; None twice for what is no address.
    """
    return _network(options.keyed_hash, ip) if isinstance(ip, str) and ip else _NOWHERE


def account_of(options: ReadOptions, *candidates: object) -> str:
    """Choose the account id among what a log offers.

    Args:
        options: holds the key.
        *candidates: values, best first.

    Returns:
        The first that says something, as it is, except that an e-mail address becomes
        `email:` + its keyed hash and an API key `key:` + its keyed hash; "" without any.
    """
    found = first_text(*candidates)
    if found is None:
        return ""
    return _account(options.keyed_hash, found.strip())


_NOWHERE = Network(None, None)


@lru_cache(65536)
def _hash(keyed_hash: KeyedHash, kind: str, value: str) -> str:
    return keyed_hash.hash(kind, value)


@lru_cache(65536)
def _network(keyed_hash: KeyedHash, ip: str) -> Network:
    bare = ip.partition(",")[0].strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        # Most are plain IPv4, which the C library reads in a tenth of the time. Same hashes.
        number = int.from_bytes(socket.inet_pton(socket.AF_INET, bare))
    except (OSError, ValueError):
        number = -1
    if number >= 0:
        network_hash = keyed_hash.hash("network", f"4/24/{number >> 8:x}")
        return Network(keyed_hash.hash("ip", bare), network_hash)
    try:
        return Network(keyed_hash.address(bare), keyed_hash.network(bare))
    except InvalidInputError:
        return _NOWHERE


@lru_cache(65536)
def _account(keyed_hash: KeyedHash, value: str) -> str:
    if "@" in value and _EMAIL.fullmatch(value):
        return "email:" + keyed_hash.hash("email", value.lower())
    if _SECRET.fullmatch(value):
        return "key:" + keyed_hash.hash("key", value.removeprefix("Bearer").strip())
    return value


def _written_time(value: str, options: ReadOptions) -> float | None:
    if not value:
        return None
    try:
        return _stamp(datetime.fromisoformat(value), options)
    except ValueError:
        pass
    found = number(value)
    if found is not None:
        return found
    if match := _CLF_TIME.fullmatch(value):
        return _access_log_time(match, options)
    bare = _ZONE_NAME.sub("", value)
    return _written_time(bare + "+00:00", options) if bare != value else None


def _access_log_time(match: re.Match[str], options: ReadOptions) -> float | None:
    day, month, year, hour, minute, second, sign, zone_h, zone_m = match.groups()
    if month.lower() not in _MONTHS:
        return None
    shift = None
    if sign is not None:
        east = timedelta(hours=int(zone_h), minutes=int(zone_m))
        shift = timezone(east if sign == "+" else -east)
    numbers = (int(hour), int(minute), int(second))
    try:
        when = datetime(
            int(year), _MONTHS.index(month.lower()) + 1, int(day), *numbers, tzinfo=shift
        )
    except ValueError:
        return None
    return _stamp(when, options)


def _stamp(when: datetime, options: ReadOptions) -> float | None:
    try:
        if when.tzinfo is None:
            return when.replace(tzinfo=UTC).timestamp() - options.timezone_offset_s
        return when.timestamp()
    except (OverflowError, ValueError):
        return None
