"""The user's own lists: countries, names, and which network lies where, each with date and hash.

The package ships none: which countries and parties a provider must not serve is the provider's to
say. A list is text, one entry a line, `#` begins a comment, and one line says `# date: 2026-11-01`:
the day its publisher dates it, not the day of the download.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from stillwatch.errors import ConfigError
from stillwatch.guard.policy.faults import read_text
from stillwatch.guard.wall.ladder import DAY_S

_MOST_BYTES: Final = 64 * 1024 * 1024


class NamedList(NamedTuple):
    """One list as it was read.

    Attributes:
        name: as rules write it, without the @.
        entries: what stands in it.
        sha256: of the file's bytes.
        date: of the list (UTC epoch seconds, midnight).
        path: the file.
        max_age_days: age from which it is not believed any more, or None.
    """

    name: str
    entries: frozenset[str]
    sha256: str
    date: float
    path: Path
    max_age_days: float | None = None

    @property
    def day(self) -> str:
        """Its date as the file has it."""
        return day_of(self.date)

    @property
    def stale_at(self) -> float:
        """The moment from which it is too old (UTC epoch seconds); infinite without a limit."""
        days = float("inf") if self.max_age_days is None else self.max_age_days
        return self.date + days * DAY_S


def day_of(at: float) -> str:
    """Write a day.

    Args:
        at: UTC epoch seconds.

    Returns:
        Year, month, day.
    """
    return datetime.datetime.fromtimestamp(at, datetime.UTC).date().isoformat()


def midnight(day: datetime.date) -> float:
    """Give a day's beginning.

    Args:
        day: the day.

    Returns:
        UTC epoch seconds.
    """
    start = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
    return start.timestamp()


def is_country(text: str) -> bool:
    """Say whether a text is a country code.

    Args:
        text: any.

    Returns:
        True for two capital letters (ISO 3166-1 alpha-2; which are in use is not checked).
    """
    return len(text) == 2 and text.isascii() and text.isalpha() and text.isupper()


def read_list(name: str, path: Path, *, countries: bool, max_age_days: float | None) -> NamedList:
    """Read a list.

    Args:
        name: as rules write it.
        path: the file.
        countries: entries must be country codes.
        max_age_days: age from which it is not believed, or None.

    Returns:
        The list.

    Raises:
        ConfigError: it cannot be read, has no date, or an entry is no country code; names the line.
    """
    entries: set[str] = set()

    def take(entry: str, where: str) -> None:
        if countries and not is_country(entry.upper()):
            message = f"{where}: entry must be a country code of two letters, got {entry!r}"
            raise ConfigError(message)
        entries.add(entry.upper() if countries else entry)

    sha256, date = _read(path, take)
    return NamedList(name, frozenset(entries), sha256, date, path, max_age_days)


class Networks:
    """Which country an address lies in, by a file of lines `192.0.2.0/24,XX`.

    Args:
        source: name, hash and date of the file; its entries are empty.
        tables: version -> prefix length -> network number -> country, longest prefixes first.
    """

    def __init__(
        self, source: NamedList, tables: Mapping[int, Mapping[int, Mapping[int, str]]]
    ) -> None:
        self.source = source
        self._tables = {v: sorted(lengths.items(), reverse=True) for v, lengths in tables.items()}
        self.country = lru_cache(8192)(self._country)

    @classmethod
    def read(cls, path: Path, *, max_age_days: float | None = None) -> Networks:
        """Read the file.

        Args:
            path: the file; like a list it says its date.
            max_age_days: age from which it is not believed, or None.

        Returns:
            The look-up.

        Raises:
            ConfigError: it cannot be read, has no date, or a line is none of network and country.
        """
        tables: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}

        def take(entry: str, where: str) -> None:
            text, _, country = (part.strip() for part in entry.partition(","))
            try:
                network = ipaddress.ip_network(text)
            except ValueError:
                network = None
            if network is None or not is_country(country.upper()):
                message = f"{where}: line must be network,country, got {entry!r}"
                raise ConfigError(message, hint="for example 192.0.2.0/24,XX")
            lengths = tables[network.version].setdefault(network.prefixlen, {})
            shift = network.max_prefixlen - network.prefixlen
            lengths[int(network.network_address) >> shift] = country.upper()

        sha256, date = _read(path, take)
        source = NamedList("networks", frozenset(), sha256, date, path, max_age_days)
        return cls(source, tables)

    def _country(self, address: str) -> str | None:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return None
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        number = int(found)
        for length, networks in self._tables[found.version]:
            country = networks.get(number >> (found.max_prefixlen - length))
            if country is not None:
                return country
        return None


def _read(path: Path, take: Callable[[str, str], None]) -> tuple[str, float]:
    """Hand over each entry and where it stands; gives the file's hash and its date."""
    raw, text = read_text(path, what="list", most=_MOST_BYTES)
    date: float | None = None
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        entry, _, comment = (part.strip() for part in line.partition("#"))
        where = f"{path}:{number}"
        if date is None and comment.lower().startswith("date:"):
            date = _date(comment.lower().removeprefix("date:"), where=where)
        if entry:
            take(entry, where)
    if date is None:
        message = f"{path}:1: a list must say its date"
        raise ConfigError(message, hint="add a line: # date: 2026-11-01")
    return hashlib.sha256(raw).hexdigest(), date


def _date(text: str, *, where: str) -> float:
    try:
        return midnight(datetime.date.fromisoformat(text.strip()))
    except ValueError:
        message = f"{where}: date must be a day like 2026-11-01, got {text.strip()!r}"
        raise ConfigError(message) from None
