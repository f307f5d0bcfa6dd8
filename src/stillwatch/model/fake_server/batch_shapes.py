"""What batches look like to their clients: each vendor's objects, pages, files and uploads."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
#: The vendors' limits, as of November 2026.
_OPENAI_ROWS, _OPENAI_BYTES = 50_000, 200 * 2**20
_ANTHROPIC_ROWS, _ANTHROPIC_BYTES = 100_000, 256 * 2**20
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Batch:
    """One batch: what was asked, since when, and what came of its rows.

    Args:
        batch_id: its id.
        kind: openai or anthropic.
        seconds: from its submission to its end.
    """

    def __init__(self, batch_id: str, *, kind: str, seconds: float) -> None:
        self.batch_id = batch_id
        self.kind = kind
        self.begun_at = time.time()
        self.seconds = seconds
        self.endpoint = ""
        self.input_file_id = ""
        self.metadata: dict[str, str] | None = None
        self.failure: str | None = None
        self.cancelled = False
        self.n_rows = 0
        self.results: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.kinds: dict[str, int] = {}
        self.output_file_id: str | None = None
        self.error_file_id: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its time is over, or it was cancelled."""
        return self.cancelled or time.time() >= self.begun_at + self.seconds


def openai_batch(batch: Batch) -> dict[str, Any]:
    """Show a batch as OpenAI does.

    Args:
        batch: it.

    Returns:
        The object, ready to be encoded.
    """
    ended = batch.has_ended
    status = "in_progress"
    if batch.failure:
        status = "failed"
    elif batch.cancelled:
        status = "cancelled"
    elif ended:
        status = "expired" if batch.kinds.get("expired") else "completed"
    problem = {"code": batch.failure, "message": "too much is queued", "param": None}
    begun = int(batch.begun_at)
    return {
        "id": batch.batch_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": [{**problem, "line": None}]}
        if batch.failure
        else None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": begun,
        "in_progress_at": begun,
        "expires_at": begun + 86_400,
        "completed_at": int(time.time()) if status == "completed" else None,
        "request_counts": {
            "total": batch.n_rows,
            "completed": len(batch.results) if ended else 0,
            "failed": len(batch.errors) if ended else 0,
        },
        "metadata": batch.metadata,
    }


def anthropic_batch(batch: Batch, *, root: str) -> dict[str, Any]:
    """Show a batch as Anthropic does.

    Args:
        batch: it.
        root: the server's address, which its results lie under.

    Returns:
        The object, ready to be encoded.
    """
    ended = batch.has_ended
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    counts |= batch.kinds if ended else {"processing": batch.n_rows}
    begun = datetime.fromtimestamp(batch.begun_at, UTC)
    return {
        "id": batch.batch_id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts,
        "created_at": begun.isoformat(),
        "expires_at": datetime.fromtimestamp(batch.begun_at + 86_400, UTC).isoformat(),
        "ended_at": datetime.now(UTC).isoformat() if ended else None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": f"{root}/v1/messages/batches/{batch.batch_id}/results" if ended else None,
    }


def openai_problem(body: dict[str, Any], content: bytes) -> str | None:
    """Check a batch by OpenAI's rules.

    Args:
        body: what was asked of `/batches`.
        content: the input file.

    Returns:
        The code that the batch fails with, or None.
    """
    rows = [_decode(line) for line in content.splitlines()]
    ids = [row.get("custom_id") for row in rows]
    if len(rows) > _OPENAI_ROWS or len(content) > _OPENAI_BYTES:
        return "batch_too_large"
    if not rows or any(row.get("method") != "POST" for row in rows):
        return "invalid_request"
    if any(row.get("url") != body["endpoint"] for row in rows):
        return "mismatched_endpoint"
    if len(set(ids)) < len(ids) or not all(isinstance(one, str) and one for one in ids):
        return "duplicate_custom_id"
    return None if body.get("completion_window") == "24h" else "invalid_completion_window"


def anthropic_problem(body: dict[str, Any], *, n_bytes: int) -> str | None:
    """Check a batch by Anthropic's rules.

    Args:
        body: what was asked of `/messages/batches`.
        n_bytes: of the request.

    Returns:
        What is wrong with it, or None.
    """
    rows = body["requests"]
    ids = [row["custom_id"] for row in rows]
    if not rows or len(rows) > _ANTHROPIC_ROWS or n_bytes > _ANTHROPIC_BYTES:
        return "requests: too few, too many or too large"
    if not all(_CUSTOM_ID.fullmatch(one) for one in ids):
        return "custom_id: 1 to 64 letters, digits, - and _"
    if len(set(ids)) < len(ids):
        return "custom_id: must be unique"
    return "params: no streams" if any(row["params"].get("stream") for row in rows) else None


def page_of(shown: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Give one page of a list.

    Args:
        shown: all of it, the newest first.
        query: what was asked for: limit, and after or after_id.

    Returns:
        The page, by both vendors' names.
    """
    after = query.get("after") or query.get("after_id")
    ids = [one["id"] for one in shown]
    start = ids.index(after) + 1 if after in ids else 0
    end = start + int(query.get("limit", "20"))
    page = shown[start:end]
    edges = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
    return {"object": "list", "data": page, "has_more": end < len(shown), **edges}


def lines_of(rows: list[dict[str, Any]]) -> bytes:
    """Write rows as JSON lines.

    Args:
        rows: any number.

    Returns:
        The lines.
    """
    return b"".join(_encode(row) + b"\n" for row in rows)
