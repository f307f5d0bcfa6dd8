"""Azure API Management: rows of ApiManagementGatewayLlmLog, with those of ApiManagementGatewayLogs.

One call is several rows that share a CorrelationId: one with the token counts and the model, and
one for each 32 KB of the question and of the answer, by SequenceNumber. Who asked stands in the
other table only. Rows of both, or rows joined by a query, may come in any order and any number of
files; a call waits until `_WAITING_ROWS` rows or `_WAITING_BYTES` of texts wait, then the oldest
leaves. What comes after that stands alone under the same id, with the tag `missing`.

Shapes taken: a workspace's columns (JSON lines, CSV, Parquet; the portal's "TimeGenerated [UTC]"
too), resource logs as exported to storage and event hubs (`time`, `category`, `properties`, also
inside `records`), and the older AzureDiagnostics columns (`requestMessages_s`).

Account, the first of: ApimSubscriptionId, UserId. Both need the gateway's table.

Source: Azure Monitor table references of both tables; API Management guide "Log token usage,
prompts, and completions for LLM APIs" (32 KB pieces, join by CorrelationId).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from stillwatch.logs.access import is_model_path, model_of_path, wire_of_path
from stillwatch.logs.fields import (
    account_of,
    answers_from_openai,
    decoded,
    epoch,
    first_text,
    flag,
    malformed,
    messages_from_openai,
    network,
    number,
    record_of,
    text,
    tokens,
)
from stillwatch.logs.otlp import weight_of
from stillwatch.logs.reader import Conversion, Origin, ReadOptions
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Answer, Exchange, Message

_WAITING_ROWS = 100_000
_WAITING_BYTES = 128 * 2**20
#: Both tables' categories as resource logs name them.
_CATEGORIES = {"gatewayllmlogs", "gatewaylogs"}
#: A piece of a message that was cut is full: 32 KB, less what an array's brackets take.
_FULL_PIECE = 32_000
_SUFFIX = re.compile(r"_[sdbgt]$|\s*\[UTC\]$")
_LLM_COLUMNS = frozenset({
    "requestmessages", "responsemessages", "prompttokens", "completiontokens", "deploymentname",
    "modelname", "isstreamcompletion", "sequencenumber", "totaltokens",
})  # fmt: skip
_GATEWAY_COLUMNS = frozenset({"apimsubscriptionid", "calleripaddress", "responsecode", "url"})
#: Columns that are kept while a call waits.
_KEPT = frozenset({
    "apimsubscriptionid", "userid", "calleripaddress", "totaltime", "durationms", "deploymentname",
    "modelname", "url", "prompttokens", "completiontokens", "totaltokens", "isstreamcompletion",
    "responsecode", "backendresponsecode", "lasterrorreason", "useragent", "apiid", "productid",
    "region", "apiversion", "requestid",
})  # fmt: skip
_MODELS = ("deploymentname", "modelname")
_NOTHING = (None, "", 0, "0", "False", "false")
_PORTAL_TIME = "%m/%d/%Y, %I:%M:%S.%f %p"

Row = dict[str, Any]


@dataclass
class _Call:
    """One call while its rows come in."""

    origin: Origin
    values: Row = field(default_factory=dict)
    sent: list[tuple[int, Any]] = field(default_factory=list)
    back: list[tuple[int, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    has_llm: bool = False
    has_gateway: bool = False
    n_rows: int = 0
    n_bytes: int = 0


class AzureApimReader:
    """Reads API Management's logs of language model calls."""

    name = "azure_apim"
    title = "Azure API Management"
    shape: Literal["json", "text", "rows"] = "rows"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format."""
        if not isinstance(record, Mapping):
            return None
        for row in _rows(record):
            category = text(row.get("category"))
            if category is not None and category.lower() in _CATEGORIES:
                return f"has the category {category} of API Management"
            if "correlationid" in row and len(_LLM_COLUMNS & row.keys()) >= 2:
                return "has a CorrelationId and columns of ApiManagementGatewayLlmLog"
            if "correlationid" in row and "apimsubscriptionid" in row:
                return "has a CorrelationId and columns of ApiManagementGatewayLogs"
        return None

    def decode(self, line: bytes) -> Any:
        """Decode a line (records of this format are decoded for it)."""
        return decoded(line)

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log, of one or many files."""
        return AzureApimConversion(options)


class AzureApimConversion(Tally):
    """One log of API Management being read."""

    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options
        self._waiting: OrderedDict[str, _Call] = OrderedDict()
        self._n_rows = self._n_bytes = 0

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Take one row, or a batch of rows; give the calls that must make room."""
        found = record_of(record, origin=origin, wanted="a row of API Management's logs")
        rows = _rows(found)
        n_bad = sum(not self._take(row, origin) for row in rows)
        # All that are bad in a record are one fault.
        self.split += max(0, len(rows) - max(n_bad, 1))
        if n_bad or not rows:
            wanted = "a row of API Management's logs with CorrelationId and time"
            malformed(origin, wanted, got=f"{n_bad or 'nothing but'} without")
        return self._release(_WAITING_ROWS, _WAITING_BYTES)

    def finish(self) -> Iterable[Exchange]:
        """Give back what still waits."""
        yield from self._release(0, 0)

    def _take(self, row: Row, origin: Origin) -> bool:
        key = first_text(row.get("correlationid"), row.get("requestid"))
        when = _time(row, self._options)
        if key is None or when is None:
            return False
        row["useragent"] = _user_agent(row)
        call = self._waiting.setdefault(key, _Call(origin))
        call.times.append(when)
        call.n_rows += 1
        self._n_rows += 1
        call.has_llm = call.has_llm or bool(_LLM_COLUMNS & row.keys())
        call.has_gateway = call.has_gateway or bool(_GATEWAY_COLUMNS & row.keys())
        place = tokens(row.get("sequencenumber")) or 0
        for name, pieces in (("requestmessages", call.sent), ("responsemessages", call.back)):
            piece = row.pop(name, None)
            if piece not in (None, "", [], "[]"):
                pieces.append((place, piece))
                size = weight_of(piece)
                call.n_bytes += size
                self._n_bytes += size
        for name in _KEPT & row.keys():
            # Rows that carry texts only have zero counts and empty names: these say nothing.
            if row[name] not in _NOTHING or name not in call.values:
                call.values[name] = row[name]
        return True

    def _release(self, n_rows: int, n_bytes: int) -> Iterator[Exchange]:
        while self._waiting and (self._n_rows > n_rows or self._n_bytes > n_bytes):
            key, call = self._waiting.popitem(last=False)
            self._n_rows -= call.n_rows
            self._n_bytes -= call.n_bytes
            self.joined += call.n_rows - 1
            if not call.has_llm and not is_model_path(text(call.values.get("url")) or ""):
                self.skipped["call of another API"] += 1
                continue
            build = partial(_exchange, key, call, self._options)
            yield from self.built(build, call.origin)


READER = AzureApimReader()


def _rows(record: Mapping[str, Any]) -> list[Row]:
    """The rows of a record, their columns in lower case, as every export spells them otherwise."""
    inner = record.get("records", record.get("Records"))
    if isinstance(inner, list):
        return [row for one in inner if isinstance(one, Mapping) for row in _rows(one)]
    row = {_SUFFIX.sub("", str(name)).lower(): value for name, value in record.items()}
    properties = decoded(row.pop("properties", None))
    if isinstance(properties, Mapping):
        row |= {str(name).lower(): value for name, value in properties.items()}
    return [row]


def _time(row: Row, options: ReadOptions) -> float | None:
    value = next((row[n] for n in ("timegenerated", "time", "timestamp") if row.get(n)), None)
    found = epoch(value, options=options)
    if found is None and isinstance(value, str):
        try:
            return datetime.strptime(value, _PORTAL_TIME).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None
    return found


def _exchange(key: str, call: _Call, options: ReadOptions) -> Exchange:
    values, url = call.values, text(call.values.get("url")) or ""
    started_at = min(call.times)
    address = network(options, values.get("calleripaddress"))
    told = (number(values.get(name)) for name in ("totaltime", "durationms"))
    total = next((one for one in told if one is not None), None)
    status = _status(values, call)
    return Exchange(
        exchange_id=key,
        account=account_of(options, values.get("apimsubscriptionid"), values.get("userid")),
        started_at=started_at,
        ended_at=None if total is None else started_at + max(0.0, total) / 1000,
        wire=wire_of_path(url) or "openai.chat",
        model=first_text(*(values.get(n) for n in _MODELS), model_of_path(url)) or "",
        model_returned=text(values.get("modelname")),
        messages=_messages(_joined(call.sent)),
        answers=_answers(_joined(call.back)),
        input_tokens=_count(values, "prompttokens", call),
        output_tokens=_count(values, "completiontokens", call),
        status=status,
        error=_error(values, status),
        streamed=flag(values.get("isstreamcompletion")),
        ip_hash=address.ip_hash,
        network_hash=address.network_hash,
        user_agent=text(values.get("useragent")),
        origin=str(call.origin),
        tags=_tags(values, call),
    )


def _joined(pieces: list[tuple[int, Any]]) -> list[Any]:
    """Put the pieces of one side together.

    A long message is cut every 32 KB. Pieces that are arrays of their own are appended, a message
    that fills its piece going on in the first of the next; other pieces are one text that was cut.
    """
    ordered = [piece for _, piece in sorted(pieces, key=lambda pair: pair[0])]
    opened = [decoded(piece) for piece in ordered]
    if not all(isinstance(piece, list | Mapping) for piece in opened):
        whole = decoded("".join(p if isinstance(p, str) else "" for p in ordered))
        return whole if isinstance(whole, list) else [whole] if whole else []
    turns: list[Any] = []
    was_full = False
    for raw, piece in zip(ordered, opened, strict=True):
        new = list(piece) if isinstance(piece, list) else [piece]
        if was_full and turns and new and (going_on := _going_on(turns[-1], new[0])):
            turns[-1], new = going_on, new[1:]
        turns += new
        was_full = _length(raw) >= _FULL_PIECE
    return turns


def _going_on(last: Any, first: Any) -> dict[str, Any] | None:
    """One message out of two halves, when they are halves of texts by the same role."""
    if not isinstance(last, Mapping) or not isinstance(first, Mapping):
        return None
    halves = (last.get("content"), first.get("content"))
    if last.get("role") != first.get("role") or not all(isinstance(h, str) for h in halves):
        return None
    return {**first, **last, "content": f"{halves[0]}{halves[1]}"}


def _length(piece: Any) -> int:
    if isinstance(piece, str):
        return len(piece.encode("utf-8", "surrogatepass"))
    return len(str(piece))


def _messages(turns: list[Any]) -> tuple[Message, ...]:
    return messages_from_openai(turns) if turns else ()


def _answers(replies: list[Any]) -> tuple[Answer, ...]:
    return tuple(answer for one in replies for answer in answers_from_openai(one))


def _status(values: Row, call: _Call) -> int:
    told = tokens(values.get("responsecode"))
    if told is None:
        told = tokens(values.get("backendresponsecode"))
    if told is not None and told < 1000:
        return told
    # Without the gateway's row nothing says how it ended; token counts and answers come of success.
    return 200 if call.back or tokens(values.get("completiontokens")) else 0


def _error(values: Row, status: int) -> str | None:
    told = text(values.get("lasterrorreason"))
    if told is not None:
        return told[:64]
    return str(status) if status >= 400 else (None if status else "no_answer_logged")


def _count(values: Row, name: str, call: _Call) -> int | None:
    found = tokens(values.get(name))
    is_told = tokens(values.get("totaltokens")) or values.get("deploymentname")
    return found if found or is_told else None


def _user_agent(values: Row) -> str | None:
    headers = decoded(values.get("requestheaders"))
    if not isinstance(headers, Mapping):
        return None
    return next((text(v) for n, v in headers.items() if str(n).lower() == "user-agent"), None)


def _tags(values: Row, call: _Call) -> dict[str, str]:
    told = {
        "api": text(values.get("apiid")),
        "product": text(values.get("productid")),
        "region": text(values.get("region")),
        "api_version": text(values.get("apiversion")),
        "response_id": text(values.get("requestid")),
    }
    halves = (("model log", call.has_llm), ("gateway log", call.has_gateway))
    missing = [name for name, is_there in halves if not is_there]
    if missing:
        told["missing"] = " and ".join(missing)
    return {name: value for name, value in told.items() if value is not None}
