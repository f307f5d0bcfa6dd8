"""The house's own form: exchanges by the field names of `Exchange`, as JSON lines or as Parquet.

Account: `account`, as it is. Hashes are taken as they are, under whatever key they were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from stillwatch.logs.fields import decoded, malformed
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Exchange

_REQUIRED = ("exchange_id", "account", "started_at")
_FIELDS = frozenset(Exchange.__struct_fields__)


class _Conversion(Tally):
    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Check the record's types; unknown fields are ignored, null ones take their defaults."""
        if isinstance(record, Exchange):
            exchange = record
        elif isinstance(record, Mapping):
            exchange = _exchange(record, origin)
        else:
            malformed(origin, "an exchange", got=type(record).__name__)
        if not exchange.origin:
            exchange = msgspec.structs.replace(exchange, origin=str(origin))
        return (exchange,)

    def finish(self) -> Iterable[Exchange]:
        """Nothing waits."""
        return ()


class OwnReader:
    """Reads exchanges."""

    name = "own"
    title = "Stillwatch exchanges"
    shape: Literal["json", "text", "rows"] = "rows"

    def recognise(self, record: Any) -> str | None:
        """Recognise the three fields that every exchange has."""
        if isinstance(record, Exchange):
            return "holds exchanges"
        if isinstance(record, Mapping) and all(name in record for name in _REQUIRED):
            return "has exchange_id, account and started_at"
        return None

    def decode(self, line: bytes) -> Any:
        """Decode a line of JSON."""
        return msgspec.json.decode(line)

    def begin(self, options: ReadOptions) -> _Conversion:
        """Begin; exchanges carry hashes already, so the options' key is not needed."""
        del options
        return _Conversion()


def _exchange(record: Mapping[str, Any], origin: Origin) -> Exchange:
    known = {k: v for k, v in record.items() if v is not None and k in _FIELDS}
    # In Parquet and CSV parameters rest as text.
    for name in ("parameters", "tags", "messages", "answers"):
        if isinstance(known.get(name), str):
            known[name] = decoded(known[name])
    try:
        return msgspec.convert(known, Exchange, strict=False)
    except msgspec.ValidationError as error:
        malformed(origin, "an exchange", got=f"one with a wrong field: {error}")


READER = OwnReader()
