"""The vendors' batch interfaces: OpenAI's files and batches, Anthropic's message batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from stillwatch.errors import ModelError, reject
from stillwatch.model.batch_base import (
    BatchClient,
    BatchLimits,
    BatchState,
    RowResult,
    Search,
    SubmissionUnknownError,
    read_results,
)
from stillwatch.model.batch_http import BatchHttp
from stillwatch.model.client import MESSAGES_VERSION, ModelUnavailableError, Timeouts
from stillwatch.wire import chat, messages, responses
from stillwatch.wire.chat_stream import dict_of, list_of
from stillwatch.wire.question import Reply

__all__ = [
    "BATCH_WIRES",
    "AnthropicBatches",
    "BatchClient",
    "BatchLimits",
    "BatchState",
    "OpenAIBatches",
    "RowResult",
    "Search",
    "SubmissionUnknownError",
    "batch_client",
    "read_results",
]

#: What a batch interface speaks.
BATCH_WIRES = ("openai.chat", "openai.responses", "anthropic.messages")
#: Two clocks may differ by this much; a batch is looked for from so long before it was sent.
_CLOCKS_S = 86_400.0
_OPENAI_ROUTES = {"openai.chat": "/v1/chat/completions", "openai.responses": "/v1/responses"}
_OPENAI_ENDINGS = frozenset({"completed", "failed", "expired", "cancelled"})
_NO_HEADERS: Mapping[str, str] = {}
_encode = msgspec.json.Encoder().encode
_Line = TypeVar("_Line")


class OpenAIBatches(BatchClient):
    """OpenAI's `/files` and `/batches`."""

    # https://platform.openai.com/docs/guides/batch, read November 2026; a margin on the bytes.
    limits = BatchLimits(50_000, 190_000_000)

    def row(self, custom_id: str, body: bytes) -> bytes:
        """Write one line of the input file."""
        asked = msgspec.Raw(body)
        url = _OPENAI_ROUTES[self.wire]
        return _encode({"custom_id": custom_id, "method": "POST", "url": url, "body": asked})

    async def submit(self, rows: Path, *, tag: str) -> str:
        """Upload the file, then make a batch of it with the tag in its metadata."""
        with rows.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", file, filename=f"{tag}.jsonl", content_type="application/jsonl")
            uploaded = await self.http.send("POST", "/files", data=form)
        asked = {
            "input_file_id": uploaded.get("id"),
            "endpoint": _OPENAI_ROUTES[self.wire],
            "completion_window": "24h",
            "metadata": {"stillwatch": tag},
        }
        return await _submitted(self, "/batches", _encode(asked))

    async def find(self, tag: str, *, since: float, n_rows: int, known: frozenset[str]) -> Search:
        """Look for the tag in the metadata of the batches since."""
        after = ""
        while True:
            page = await self.http.get(f"/batches?limit=100{after}")
            shown = [dict_of(one) for one in list_of(page.get("data"))]
            for one in shown:
                if dict_of(one.get("metadata")).get("stillwatch") == tag:
                    return Search(one["id"])
            is_past = bool(shown) and shown[-1].get("created_at", 0) < since - _CLOCKS_S
            if not shown or is_past or not page.get("has_more"):
                return Search(None)
            after = f"&after={shown[-1]['id']}"

    async def state(self, batch_id: str) -> BatchState:
        """Ask for the batch's object."""
        found = await self.http.get(f"/batches/{batch_id}")
        counts = dict_of(found.get("request_counts"))
        files = [found.get(name) for name in ("output_file_id", "error_file_id")]
        failure = None
        if found.get("status") == "failed":
            problems = list_of(dict_of(found.get("errors")).get("data"))
            codes = [code for p in problems if isinstance(code := dict_of(p).get("code"), str)]
            failure = codes[0] if codes else "failed"
        return BatchState(
            batch_id=batch_id,
            has_ended=found.get("status") in _OPENAI_ENDINGS,
            n_done=(counts.get("completed") or 0) + (counts.get("failed") or 0),
            failure=failure,
            results=tuple(f"/files/{file}/content" for file in files if isinstance(file, str)),
        )

    def read_row(self, line: bytes) -> RowResult:
        """Read one line of the output or the error file."""
        row = _read(line, _OpenAIRow, where=self.where)
        if row.response is None or row.error:
            code = dict_of(row.error).get("code")
            return RowResult(row.custom_id, None, 0, str(code or "error"), {})
        body, status = bytes(row.response.body), row.response.status_code
        facts = _facts(body, request_id=row.response.request_id)
        if status != 200:
            return RowResult(row.custom_id, None, status, chat.parse_error_code(body), facts)
        parse = chat.parse_response if self.wire == "openai.chat" else responses.parse_response
        return _answered(row.custom_id, body, parse=parse, facts=facts)


class AnthropicBatches(BatchClient):
    """Anthropic's `/messages/batches`."""

    # https://docs.anthropic.com/en/api/creating-message-batches, read November 2026; a margin.
    limits = BatchLimits(100_000, 245_000_000)
    opening = b'{"requests":['
    between = b","
    closing = b"]}"

    def row(self, custom_id: str, body: bytes) -> bytes:
        """Write one element of `requests`."""
        return _encode({"custom_id": custom_id, "params": msgspec.Raw(body)})

    async def submit(self, rows: Path, *, tag: str) -> str:
        """Send all rows; they carry the tag in their ids."""
        with rows.open("rb") as file:
            return await _submitted(self, "/messages/batches", file)

    async def find(self, tag: str, *, since: float, n_rows: int, known: frozenset[str]) -> Search:
        """Look at the batches since that are as large, and at the ids in their results.

        The vendor tells the rows' ids only when a batch has ended; until then it is doubtful.
        """
        after, doubtful = "", []
        while True:
            page = await self.http.get(f"/messages/batches?limit=100{after}")
            shown = [dict_of(one) for one in list_of(page.get("data"))]
            recent = [one for one in shown if _time_of(one.get("created_at")) >= since - _CLOCKS_S]
            for one in recent:
                batch_id = str(one.get("id"))
                total = sum(dict_of(one.get("request_counts")).values())
                if batch_id in known or total != n_rows:
                    continue
                if one.get("processing_status") != "ended":
                    doubtful.append(batch_id)
                elif await self._has_tag(batch_id, tag):
                    return Search(batch_id)
            if len(recent) < len(shown) or not shown or not page.get("has_more"):
                return Search(None, tuple(doubtful))
            after = f"&after_id={page.get('last_id')}"

    async def state(self, batch_id: str) -> BatchState:
        """Ask for the batch's object."""
        found = await self.http.get(f"/messages/batches/{batch_id}")
        counts = dict_of(found.get("request_counts"))
        ended = found.get("processing_status") == "ended"
        # Not at `results_url`: the key goes to no other host than the endpoint's.
        place = f"/messages/batches/{batch_id}/results"
        return BatchState(
            batch_id=batch_id,
            has_ended=ended,
            n_done=sum(counts.values()) - (counts.get("processing") or 0),
            failure=None,
            results=(place,) if ended else (),
        )

    def read_row(self, line: bytes) -> RowResult:
        """Read one line of the results."""
        row = _read(line, _AnthropicRow, where=self.where)
        if row.result.type == "succeeded":
            body = bytes(row.result.message)
            parse = messages.parse_response
            return _answered(row.custom_id, body, parse=parse, facts=_facts(body))
        failed = dict_of(row.result.error)
        code = dict_of(failed.get("error")).get("type") or failed.get("type") or row.result.type
        return RowResult(
            row.custom_id, None, messages.ERROR_STATUSES.get(str(code), 0), str(code), {}
        )

    async def _has_tag(self, batch_id: str, tag: str) -> bool:
        line = await self.http.first_line(f"/messages/batches/{batch_id}/results")
        return bool(line.strip()) and self.read_row(line).custom_id.startswith(f"{tag}-")


def batch_client(
    endpoint: str,
    *,
    wire: str,
    headers: Mapping[str, str] = _NO_HEADERS,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - immutable
) -> BatchClient:
    """Choose the batch interface of a wire.

    Args:
        endpoint: base URL, the part before `/chat/completions`, `/responses` or `/messages`.
        wire: one of `BATCH_WIRES`.
        headers: further headers, the key among them.
        timeouts: how long to wait.

    Returns:
        The client.

    Raises:
        InvalidInputError: the wire has no batch interface.
    """
    if wire not in BATCH_WIRES:
        reject("[ask]", "batch", f"false for a wire other than {', '.join(BATCH_WIRES)}", got=wire)
    if wire == "anthropic.messages":
        versioned = {**MESSAGES_VERSION, **headers}
        http = BatchHttp(endpoint, headers=versioned, timeouts=timeouts)
        return AnthropicBatches(http, wire=wire)
    return OpenAIBatches(BatchHttp(endpoint, headers=headers, timeouts=timeouts), wire=wire)


class _OpenAIResponse(msgspec.Struct):
    status_code: int = 0
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _OpenAIRow(msgspec.Struct):
    custom_id: str
    response: _OpenAIResponse | None = None
    error: Any = None


class _AnthropicResult(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _AnthropicRow(msgspec.Struct):
    custom_id: str
    result: _AnthropicResult


class _Told(msgspec.Struct):
    id: Any = None
    system_fingerprint: Any = None


async def _submitted(client: BatchClient, path: str, data: object) -> str:
    """Send what makes a batch, and read its id."""
    try:
        found = await client.http.send("POST", path, data=data, kind="application/json")
    except ModelUnavailableError as error:
        # It may have been taken though no id came back.
        message = f"{client.where}: a batch was sent and no id came back"
        raise SubmissionUnknownError(message) from error
    batch_id = found.get("id")
    if not isinstance(batch_id, str):
        message = f"{client.where}: a batch was sent and no id came back"
        raise SubmissionUnknownError(message)
    return batch_id


def _read(line: bytes, kind: type[_Line], *, where: str) -> _Line:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{where}: a line of its results is no result ({len(line)} bytes)"
        raise ModelError(message) from error


def _answered(
    custom_id: str, body: bytes, *, parse: Callable[[bytes], Reply], facts: dict[str, str]
) -> RowResult:
    try:
        return RowResult(custom_id, parse(body), 200, None, facts)
    except ModelError:
        return RowResult(custom_id, None, 200, "unreadable", facts)


def _facts(body: bytes, *, request_id: str | None = None) -> dict[str, str]:
    try:
        told = msgspec.json.decode(body, type=_Told)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = _Told()
    found = {
        "request_id": request_id,
        "response_id": told.id,
        "system_fingerprint": told.system_fingerprint,
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _time_of(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
