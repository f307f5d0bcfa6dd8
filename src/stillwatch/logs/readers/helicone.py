"""Helicone: requests from the query API or from `npx @helicone/export` (JSON lines, JSON or CSV).

Account: `request_user_id`, which the application sends as `Helicone-User-Id`; else `helicone_user`,
the owner of the Helicone key, which is one account for a whole application.

The API gives bodies behind `signed_body_url` unless they were asked for; the tag `body` says
"elsewhere" then. The CSV has no request id, no answers and no path: its id is the response's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stillwatch.logs.fields import (
    account_of,
    decoded,
    epoch,
    first_text,
    malformed,
    number,
    record_of,
    text,
    tokens,
)
from stillwatch.logs.reader import JsonReader, Origin, ReadOptions
from stillwatch.logs.replies import Asked, answers_of, asked_of, wire_of
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Answer, Exchange

_WANTED = "a Helicone request with request_created_at"
_SESSION = "Helicone-Session-Id"


class Helicone(JsonReader):
    """The reader of Helicone exports.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: rows of JSON or CSV.
    """

    name = "helicone"
    title = "Helicone export"
    shape = "rows"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format; see `Reader`.

        Args:
            record: a decoded row.

        Returns:
            The ground, or None.
        """
        names = {"request_created_at", "response_status", "request_user_id"}
        if isinstance(record, Mapping) and names <= record.keys():
            return "has request_created_at, response_status and request_user_id as Helicone has"
        return None


class _Conversion(Tally):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        row = record_of(record, origin=origin, wanted=_WANTED)
        options = self._options
        started_at = epoch(row.get("request_created_at"), options=options)
        if started_at is None:
            malformed(origin, _WANTED, got="none that can be read")
        asked, body = _asked(row), _json(row.get("response_body"))
        status, error = _outcome(row, body)
        properties = _mapping(row.get("request_properties")) or _mapping(row.get("properties"))
        first_ms = number(row.get("time_to_first_token"))
        return (
            Exchange(
                exchange_id=first_text(row.get("request_id"), row.get("response_id"), str(origin))
                or "",
                account=account_of(options, row.get("request_user_id"), row.get("helicone_user")),
                started_at=started_at,
                first_output_at=None if not first_ms else started_at + first_ms / 1000,
                ended_at=_ended(row, started_at, options=options),
                wire=asked.wire,
                model=first_text(row.get("request_model"), asked.model, row.get("model")) or "",
                model_returned=first_text(row.get("response_model"), row.get("model_override")),
                messages=asked.messages,
                answers=_answers(row, body) if error is None else (),
                parameters=asked.parameters,
                tools_hash=asked.tools_hash,
                input_tokens=tokens(row.get("prompt_tokens")),
                output_tokens=tokens(row.get("completion_tokens")),
                status=status,
                error=error,
                streamed=asked.streamed,
                session=text(properties.get(_SESSION)),
                origin=str(origin),
                tags=_tags(row, properties, has_body=bool(asked.messages)),
            ),
        )

    def finish(self) -> Iterable[Exchange]:
        return ()


def _json(value: Any) -> Any:
    """Open a JSON column; the exporter's CSV doubles the quotes inside it once too often."""
    found = decoded(value)
    if isinstance(found, str) and '""' in found:
        found = decoded(found.replace('""', '"'))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    found = _json(value)
    return found if isinstance(found, Mapping) else {}


def _asked(row: Mapping[str, Any]) -> Asked:
    asked = asked_of(_json(row.get("request_body")), wire=_wire(row))
    if asked.messages:
        return asked
    # Helicone's own reading of the body, which is kept where the body itself is not.
    mapped = _mapping(_mapping(row.get("llmSchema")).get("request"))
    turns = mapped.get("messages")
    if not isinstance(turns, list):
        return asked_of(mapped) if mapped.get("prompt") else asked
    plain = [
        {name: part for name, part in turn.items() if name != "_type"}
        for turn in turns
        if isinstance(turn, Mapping)
    ]
    own = {name: part for name, part in mapped.items() if name not in {"llm_type", "provider"}}
    return asked_of({**own, "messages": plain})


def _answers(row: Mapping[str, Any], body: Any) -> tuple[Answer, ...]:
    if body not in (None, "", {}):
        return answers_of(body)
    mapped = _mapping(_mapping(row.get("llmSchema")).get("response")).get("messages")
    turns = mapped if isinstance(mapped, list) else []
    return tuple(
        answer
        for turn in turns
        if isinstance(turn, Mapping)
        for answer in answers_of({k: v for k, v in turn.items() if k not in {"_type", "id"}})
    )


def _outcome(row: Mapping[str, Any], body: Any) -> tuple[int, str | None]:
    # Below 100 are Helicone's own words for calls without a reply: pending, cancelled, timed out.
    given = number(row.get("response_status"))
    status = int(given) if given is not None and 100 <= given <= 599 else 0
    if 200 <= status < 300:
        return status, None
    told = body.get("error") if isinstance(body, Mapping) else None
    found = told if isinstance(told, Mapping) else {}
    name = first_text(found.get("code"), found.get("type"))
    return status, (name or ("error" if status else "no reply"))[:64]


def _ended(row: Mapping[str, Any], started_at: float, *, options: ReadOptions) -> float | None:
    took_ms = number(row.get("delay_ms"))
    if took_ms is None:
        took_ms = number(row.get("latency"))
    if took_ms is not None and took_ms >= 0:
        return started_at + took_ms / 1000
    return epoch(row.get("response_created_at"), options=options)


def _wire(row: Mapping[str, Any]) -> str | None:
    named = wire_of(first_text(row.get("request_path"), row.get("target_url")))
    is_claude = (text(row.get("provider")) or "").upper() == "ANTHROPIC"
    return "anthropic.messages" if named is None and is_claude else named


def _tags(
    row: Mapping[str, Any], properties: Mapping[str, Any], *, has_body: bool
) -> dict[str, str]:
    facts = {
        "provider": text(row.get("provider")),
        "country": text(row.get("country_code")),
        "cache_hit": "true" if _is_cached(row.get("cache_reference_id")) else None,
        "session_name": text(properties.get("Helicone-Session-Name")),
        "body": "elsewhere" if not has_body and text(row.get("signed_body_url")) else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _is_cached(reference: object) -> bool:
    # The id of no request is written in zeros.
    return bool((text(reference) or "").strip("0-"))


READER = Helicone(_Conversion)
