"""The formats that logs are read in."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from stillwatch.errors import reject
from stillwatch.logs.reader import Reader

#: Format -> module that exports `READER`; asked in this order, the more particular ones first.
FORMATS: dict[str, str] = {
    "own": "stillwatch.logs.readers.own",
    "litellm": "stillwatch.logs.readers.litellm",
    "litellm_spend": "stillwatch.logs.readers.litellm_spend",
    "otel": "stillwatch.logs.readers.otel",
    "langfuse": "stillwatch.logs.readers.langfuse",
    "helicone": "stillwatch.logs.readers.helicone",
    "bedrock": "stillwatch.logs.readers.bedrock",
    "azure_apim": "stillwatch.logs.readers.azure_apim",
    "openai_batch": "stillwatch.logs.readers.openai_batch",
    "anthropic_batch": "stillwatch.logs.readers.anthropic_batch",
    "envoy_ai": "stillwatch.logs.readers.envoy_ai",
    "anthropic_raw": "stillwatch.logs.readers.anthropic_raw",
    "openai_raw": "stillwatch.logs.readers.openai_raw",
    "nginx": "stillwatch.logs.readers.nginx",
}
#: Formats whose records stand for themselves, so that any process may read any block of them. The
#: others hold records that wait for their other half, and are read by one process in order.
SEPARATE = frozenset({
    "own",
    "litellm",
    "litellm_spend",
    "helicone",
    "bedrock",
    "envoy_ai",
    "nginx",
})
#: Formats of which most records stand for themselves, so that any process may try any block.
LOOSE = frozenset({"otel", "langfuse", "openai_raw", "anthropic_raw"})
#: Formats whose readers decode lines of JSON faster themselves, as they know what they need of it.
TYPED = frozenset({"litellm"})


class Recognition(NamedTuple):
    """How a format was recognised.

    Attributes:
        format: its name.
        ground: to follow "because it".
        share: of the records looked at, those that are of this format, 0..1.
    """

    format: str
    ground: str
    share: float


def reader_of(name: str) -> Reader:
    """Find a format's reader.

    Args:
        name: as `--format` takes it; hyphens will do for underscores.

    Returns:
        The reader.

    Raises:
        InvalidInputError: no such format.
    """
    known = name.replace("-", "_")
    if known not in FORMATS:
        reject("logs", "format", f"auto or one of {', '.join(FORMATS)}", got=name)
    reader: Reader = import_module(FORMATS[known]).READER
    return reader


def recognise(records: Sequence[Any], lines: Sequence[str] = ()) -> Recognition | None:
    """Say what format records are of.

    Args:
        records: some from the beginning of a file, decoded; what is no JSON stays away.
        lines: the same as texts, for formats that are no JSON; none of a table.

    Returns:
        The format that knows most of them, the more particular one if two know as many; None when
        none knows any.
    """
    best: Recognition | None = None
    for name in FORMATS:
        reader = reader_of(name)
        asked = lines if reader.shape == "text" else records
        grounds = [ground for record in asked if (ground := _ask(reader, record)) is not None]
        share = len(grounds) / max(len(records), len(lines), 1)
        if grounds and (best is None or share > best.share):
            best = Recognition(name, grounds[0], share)
    return best


def _ask(reader: Reader, record: Any) -> str | None:
    try:
        return reader.recognise(record)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):  # never thought of
        return None
