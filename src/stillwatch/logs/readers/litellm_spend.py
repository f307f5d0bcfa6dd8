"""LiteLLM's spend log: rows of the table `LiteLLM_SpendLogs`, from a dump or live from PostgreSQL.

Account: `user`, else `metadata.user_api_key_user_id`, else the hash of the virtual key in
`api_key`, else `end_user`. Times are UTC without a zone, as the proxy writes them.

Texts are there only when the proxy runs with `store_prompts_in_spend_logs`; the question then
stands in `proxy_server_request`, `messages` is filled for realtime calls alone. Long texts are cut
in their middle by the proxy: the tag `truncated` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stillwatch.logs.fields import (
    account_of,
    decoded,
    epoch,
    first_text,
    flag,
    hashed,
    malformed,
    messages_from_openai,
    network,
    record_of,
    text,
    tokens,
)
from stillwatch.logs.reader import JsonReader, Origin, ReadOptions
from stillwatch.logs.readers.litellm_words import mapping, outcome, own_answers, own_messages
from stillwatch.logs.replies import Asked, answers_of, asked_of, wire_of
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Answer, Exchange, Message

_WANTED = "a row of LiteLLM_SpendLogs with startTime"
_COLUMNS = ("request_id", "call_type", "startTime")
#: The proxy's own words inside a text that it cut, in its newer and its older versions.
_CUT_MARKS = ("litellm_truncated", "... (truncated ")


class LiteLLMSpend(JsonReader):
    """The reader of LiteLLM spend log rows.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: rows of CSV, Parquet, JSON, or of PostgreSQL.
    """

    name = "litellm_spend"
    title = "LiteLLM_SpendLogs"
    shape = "rows"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format; see `Reader`.

        Args:
            record: a decoded row.

        Returns:
            The ground, or None.
        """
        if not isinstance(record, Mapping) or "hidden_params" in record:
            return None
        if all(name in record for name in _COLUMNS) and ("api_key" in record or "spend" in record):
            return "has request_id, call_type, startTime and spend as LiteLLM_SpendLogs has"
        return None


class _Conversion(Tally):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        row = record_of(record, origin=origin, wanted=_WANTED)
        options = self._options
        started_at = epoch(row.get("startTime"), options=options)
        if started_at is None:
            malformed(origin, _WANTED, got="none that can be read")
        metadata = mapping(decoded(row.get("metadata")))
        get = metadata.get
        asked, answers, marks = _said(row)
        reply = mapping(decoded(row.get("response")))
        key = first_text(row.get("api_key"), get("user_api_key"))
        where = network(options, row.get("requester_ip_address") or get("requester_ip_address"))
        status, error = outcome(
            first_text(row.get("status"), get("status")), get("error_information")
        )
        return (
            Exchange(
                exchange_id=text(row.get("request_id")) or str(origin),
                account=account_of(
                    options, row.get("user"), get("user_api_key_user_id"), key, row.get("end_user")
                ),
                started_at=started_at,
                first_output_at=epoch(row.get("completionStartTime"), options=options),
                ended_at=epoch(row.get("endTime"), options=options),
                wire=asked.wire,
                model=first_text(row.get("model_group"), row.get("model")) or "",
                model_returned=(
                    first_text(reply.get("model"), row.get("model")) if status == 200 else None
                ),
                messages=asked.messages,
                answers=answers if status == 200 else (),
                parameters=asked.parameters,
                tools_hash=asked.tools_hash,
                input_tokens=tokens(row.get("prompt_tokens")),
                output_tokens=tokens(row.get("completion_tokens")),
                status=status,
                error=error,
                streamed=asked.streamed,
                org=first_text(
                    row.get("organization_id"), get("user_api_key_org_id"), row.get("team_id")
                ),
                key_hash=hashed(options, "key", key),
                ip_hash=where.ip_hash,
                network_hash=where.network_hash,
                user_agent=text(get("user_agent")),
                session=text(row.get("session_id")),
                origin=str(origin),
                tags=_tags(row, options=options) | marks,
            ),
        )

    def finish(self) -> Iterable[Exchange]:
        return ()


class _Said(NamedTuple):
    asked: Asked
    answers: tuple[Answer, ...]
    marks: dict[str, str]


def _said(row: Mapping[str, Any]) -> _Said:
    asked, replied = _asked(row), answers_of(row.get("response"))
    messages, answers = own_messages(asked.messages), own_answers(replied)
    is_redacted = messages is not asked.messages or answers is not replied
    marks = {"redacted": "true"} if is_redacted else {}
    if _is_cut(messages, answers):
        marks["truncated"] = "true"
    return _Said(asked._replace(messages=messages), answers, marks)


def _asked(row: Mapping[str, Any]) -> Asked:
    asked = asked_of(row.get("proxy_server_request"), wire=wire_of(row.get("call_type")))
    if asked.messages:
        return asked
    return asked._replace(messages=_own_column(decoded(row.get("messages"))))


def _own_column(messages: object) -> tuple[Message, ...]:
    # An object there is the column's default `{}`, or one turn.
    if isinstance(messages, Mapping) and "role" not in messages:
        return ()
    return messages_from_openai(messages)


def _is_cut(messages: tuple[Message, ...], answers: tuple[Answer, ...]) -> bool:
    texts = (*(turn.content for turn in messages), *(answer.text for answer in answers))
    return any(mark in said for said in texts for mark in _CUT_MARKS)


def _tags(row: Mapping[str, Any], *, options: ReadOptions) -> dict[str, str]:
    facts = {
        "end_user": hashed(options, "end_user", row.get("end_user")),
        "team": text(row.get("team_id")),
        "call_type": text(row.get("call_type")),
        "provider": text(row.get("custom_llm_provider")),
        "cache_hit": "true" if flag(row.get("cache_hit")) else None,
        "agent": text(row.get("agent_id")),
    }
    return {name: value for name, value in facts.items() if value is not None}


READER = LiteLLMSpend(_Conversion)
