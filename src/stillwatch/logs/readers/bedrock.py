"""Amazon Bedrock model invocation logs (schema ModelInvocationLog 1.0).

Takes the records that Bedrock delivers to S3, and the wrappings of CloudWatch Logs: a record as
text in `message` or `@message`, or a subscription's `logEvents`. Bodies above 100 KB lie in S3
objects of their own; the record then carries only their path, and the exchange the tag `missing`.
`timestamp` is taken for the arrival of the question: the documentation does not say which end of
the call it marks. Client addresses and user agents are not in this log (CloudTrail has them, by
requestId).

Account, the first of: identity.arn (an e-mail as its session name becomes a keyed hash),
accountId. Org: accountId.

Source: Amazon Bedrock user guide, "Monitor model invocation using CloudWatch Logs and Amazon S3";
records published by its users for identity, errorCode, requestMetadata and the S3 paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from stillwatch.logs.fields import (
    account_of,
    decoded,
    epoch,
    first_text,
    hash_tools,
    hashed,
    malformed,
    record_of,
    text,
    tokens,
)
from stillwatch.logs.reader import Conversion, Origin, ReadOptions
from stillwatch.logs.readers.bedrock_bodies import read_input, read_output
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Exchange

#: Exceptions of the runtime to the HTTP status that they travel with (API reference, common errors
#: of InvokeModel and Converse).
_STATUS = {
    "ValidationException": 400, "ServiceQuotaExceededException": 400, "AccessDeniedException": 403,
    "ResourceNotFoundException": 404, "ModelTimeoutException": 408, "ConflictException": 409,
    "ModelErrorException": 424, "ModelStreamErrorException": 424, "ModelNotReadyException": 429,
    "ThrottlingException": 429, "InternalServerException": 500, "ServiceUnavailableException": 503,
}  # fmt: skip
#: Tokens read from and written to a cache: billed apart from `inputTokenCount`.
_CACHED = {
    "cache_read_tokens": "cacheReadInputTokenCount",
    "cache_write_tokens": "cacheWriteInputTokenCount",
}
_WRAPPINGS = ("message", "@message")


class BedrockReader:
    """Reads Amazon Bedrock's invocation logs."""

    name = "bedrock"
    title = "Amazon Bedrock invocation log"
    shape: Literal["json", "text", "rows"] = "json"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format."""
        if not isinstance(record, Mapping):
            return None
        if record.get("schemaType") == "ModelInvocationLog":
            return 'has the schemaType "ModelInvocationLog"'
        inner = next(iter(_unwrapped(record)), None)
        if isinstance(inner, Mapping) and inner.get("schemaType") == "ModelInvocationLog":
            return 'wraps a record with the schemaType "ModelInvocationLog"'
        return None

    def decode(self, line: bytes) -> Any:
        """Decode a line (records of this format are decoded for it)."""
        return decoded(line)

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log, of one or many files."""
        return BedrockConversion(options)


class BedrockConversion(Tally):
    """One Bedrock log being read; each record is a whole call."""

    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Turn one record, or the records that it wraps, into exchanges."""
        found = record_of(record, origin=origin, wanted="a ModelInvocationLog")
        inner = [found] if "modelId" in found else _unwrapped(found)
        if not inner:
            malformed(origin, "a ModelInvocationLog", got="an object without modelId")
        return self.each(inner, origin, read=lambda one: [self._exchange(one, origin)])

    def finish(self) -> Iterable[Exchange]:
        """Give back what still waits: nothing."""
        return ()

    def _exchange(self, record: Any, origin: Origin) -> Exchange:
        if not isinstance(record, Mapping) or "modelId" not in record:
            malformed(origin, "a ModelInvocationLog", got="another record inside")
        options = self._options
        started_at = epoch(record.get("timestamp"), options=options)
        if started_at is None:
            malformed(origin, "a ModelInvocationLog with a timestamp", got="none that is a time")
        sent, back = _mapping(record.get("input")), _mapping(record.get("output"))
        asked, told = read_input(sent.get("inputBodyJson")), read_output(back.get("outputBodyJson"))
        error = text(record.get("errorCode"))
        metrics = told.metrics
        operation = text(record.get("operation")) or ""
        return Exchange(
            exchange_id=text(record.get("requestId")) or f"bedrock:{origin}",
            account=_account(record, options),
            started_at=started_at,
            first_output_at=_after(started_at, metrics.first_output_s),
            ended_at=_after(started_at, metrics.duration_s),
            wire=told.wire or asked.wire,
            model=text(record.get("modelId")) or "",
            model_returned=told.model,
            messages=asked.messages,
            answers=told.answers,
            parameters=asked.parameters,
            tools_hash=hash_tools(asked.tools),
            input_tokens=_counted(sent.get("inputTokenCount"), metrics.input_tokens),
            output_tokens=_counted(back.get("outputTokenCount"), metrics.output_tokens),
            status=200 if error is None else _STATUS.get(error, 0),
            error=error and error[:64],
            streamed=told.is_stream or "Stream" in operation,
            org=text(record.get("accountId")),
            origin=str(origin),
            tags=_tags(record, options),
        )


READER = BedrockReader()


def _unwrapped(record: Mapping[str, Any]) -> list[Any]:
    """The records inside CloudWatch's wrappings."""
    events = record.get("logEvents")
    wrapped = events if isinstance(events, list) else [record]
    inner = [
        decoded(first_text(*(event.get(name) for name in _WRAPPINGS)))
        for event in wrapped
        if isinstance(event, Mapping)
    ]
    return [one for one in inner if one is not None]


def _account(record: Mapping[str, Any], options: ReadOptions) -> str:
    arn = text(_mapping(record.get("identity")).get("arn"))
    if arn is None:
        return account_of(options, record.get("accountId"))
    head, slash, session = arn.rpartition("/")
    return head + slash + account_of(options, session)


def _tags(record: Mapping[str, Any], options: ReadOptions) -> dict[str, str]:
    told = {
        "operation": text(record.get("operation")),
        "region": text(record.get("region")),
        "inference_region": text(record.get("inferenceRegion")),
    }
    sent, back = _mapping(record.get("input")), _mapping(record.get("output"))
    for tag, name in _CACHED.items():
        if tokens(sent.get(name)):
            told[tag] = text(sent[name])
    elsewhere = [
        what
        for what, path in (
            ("question", text(sent.get("inputBodyS3Path"))),
            ("answer", text(back.get("outputBodyS3Path"))),
        )
        if path is not None
    ]
    if elsewhere:
        told["missing"] = " and ".join(elsewhere)
    for name, value in _mapping(record.get("requestMetadata")).items():
        found = text(value)
        if found is not None:  # callers put whatever they like here, names of persons too
            told[f"request.{name}"] = hashed(options, "email", found) if "@" in found else found
    return {name: value for name, value in told.items() if value is not None}


def _counted(told: object, fallback: int | None) -> int | None:
    found = tokens(told)
    return fallback if found is None else found


def _after(started_at: float, seconds: float | None) -> float | None:
    return None if seconds is None else started_at + seconds


def _mapping(value: object) -> Mapping[str, Any]:
    found = decoded(value)
    return found if isinstance(found, Mapping) else {}
