"""A model server that takes files and batches in both vendors' ways, on real sockets."""

import email
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from stillwatch.wire.signature import MARK_HEADER

KEYS = ("requests", "custom_id", "params", "body")


@dataclass
class Got:
    """One request as the vendor saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Vendor:
    """Files, batches and what was asked of them; every batch ends at once, its results reversed."""

    files: dict[str, bytes] = field(default_factory=dict)
    shown: dict[str, dict[str, object]] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    errors: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    status: str = "completed"
    is_marking: bool = False
    url: str = ""
    paused_after: int | None = None

    def asked(self, method: str, ending: str) -> list[Got]:
        """The requests of a method whose path ends so."""
        return [one for one in self.got if one.method == method and one.path.endswith(ending)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve any request."""
        body = await request.read()
        self.got.append(Got(request.method, request.path, dict(request.headers), body))
        names = request.path.strip("/").split("/")[1:]
        if names[:2] == ["messages", "batches"]:
            return await self._messages(request, names[2:], body)
        if names[0] == "files":
            return await self._files(request, names[1:], body)
        if names[0] == "batches":
            return self._batches(request, names[1:], body)
        return web.json_response({"id": "upload_1", "file": {"id": "file-parts"}})

    async def _files(self, request, names, body):
        if request.method == "POST":
            content, purpose = form_of(request.headers["content-type"], body)
            return web.json_response(self.keep(content, purpose))
        if not names:
            listed = [{"id": file, "object": "file"} for file in self.files]
            return web.json_response({"object": "list", "data": listed, "has_more": False})
        if names[0] not in self.files:
            return web.json_response({"error": {"code": "no_such_file"}}, status=404)
        if request.method == "DELETE":
            del self.files[names[0]]
            return web.json_response({"id": names[0], "deleted": True})
        if len(names) > 1:
            return await self._give(request, self.files[names[0]])
        return web.json_response({"id": names[0], "object": "file"})

    def keep(self, content: bytes, purpose: str) -> dict[str, object]:
        """Keep a file; gives its object."""
        file = f"file-{len(self.files) + 1:06d}"
        self.files[file] = content
        return {"id": file, "object": "file", "bytes": len(content), "purpose": purpose}

    async def _give(self, request, content):
        headers = {"content-type": "application/octet-stream"}
        if self.is_marking:
            headers["x-stillwatch-marked"] = "mk-1"
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        status = 200
        if found:
            start, end = int(found[1]), int(found[2] or len(content) - 1)
            end = min(end, len(content) - 1)
            headers["content-range"] = f"bytes {start}-{end}/{len(content)}"
            status, content = 206, content[start : end + 1]
        if self.paused_after is None:
            return web.Response(status=status, body=content, headers=headers)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        await response.write(content[: self.paused_after])
        request.transport.abort()
        return response

    def _batches(self, request, names, body):
        if request.method == "POST" and not names:
            asked = json.loads(body)
            return web.json_response(self._begin(asked))
        if not names:
            return web.json_response({"object": "list", "data": list(self.shown.values())})
        if names[-1] == "cancel":
            self.shown[names[0]]["status"] = "cancelled"
        return web.json_response(self.shown[names[0]])

    def _begin(self, asked):
        batch = f"batch_{len(self.shown) + 1:06d}"
        done, failed = [], []
        for line in self.files[asked["input_file_id"]].splitlines():
            row = json.loads(line)
            head = {"id": f"r-{row['custom_id']}", "custom_id": row["custom_id"]}
            if row["custom_id"] in self.without:
                continue
            if row["custom_id"] in self.errors:
                error = {"code": "batch_expired", "message": "too late"}
                failed.append({**head, "response": None, "error": error})
            else:
                response = {"status_code": 200, "request_id": "q", "body": chat_answer(row["body"])}
                done.append({**head, "response": response, "error": None})
        files = [self.keep(lines_of(rows), "batch_output")["id"] if rows else None
                 for rows in (done, failed)]  # fmt: skip
        self.shown[batch] = {
            "id": batch, "object": "batch", "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"], "status": self.status, "created_at": 1,
            "completion_window": "24h", "output_file_id": files[0], "error_file_id": files[1],
        }  # fmt: skip
        return self.shown[batch]

    async def _messages(self, request, names, body):
        if request.method == "POST" and not names:
            batch = f"msgbatch_{len(self.shown) + 1:06d}"
            rows = json.loads(body)["requests"]
            self.results[batch] = lines_of([self._result(row) for row in rows])
            self.shown[batch] = {
                "id": batch, "type": "message_batch", "processing_status": "ended",
                "request_counts": dict.fromkeys(
                    ("processing", "succeeded", "errored", "canceled", "expired"), 0),
                "created_at": "2026-11-01T00:00:00Z", "expires_at": "2026-11-02T00:00:00Z",
                "results_url": f"{self.url}/v1/messages/batches/{batch}/results",
            }  # fmt: skip
            return web.json_response(self.shown[batch])
        if not names:
            return web.json_response({"data": list(self.shown.values()), "has_more": False})
        if names[-1] == "results":
            return await self._give(request, self.results[names[0]])
        return web.json_response(self.shown[names[0]])

    def _result(self, row):
        if row["custom_id"] in self.without:
            return {"custom_id": row["custom_id"], "result": {"type": "expired"}}
        if row["custom_id"] in self.errors:
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
            return {"custom_id": row["custom_id"], "result": {"type": "errored", "error": error}}
        text = row["params"]["messages"][-1]["content"]
        message = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": row["params"]["model"],
            "content": [{"type": "text", "text": f"answer to {text}"}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 3},
        }  # fmt: skip
        return {"custom_id": row["custom_id"], "result": {"type": "succeeded", "message": message}}


def form_of(content_type: str, body: bytes) -> tuple[bytes, str]:
    """Read a form as the standard library does: its file and its purpose."""
    head = f"content-type: {content_type}\r\n\r\n".encode()
    parts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in email.message_from_bytes(head + body).get_payload()
    }
    return parts["file"], parts.get("purpose", b"").decode()


def chat_answer(asked: dict) -> dict:
    """Answer a question of Chat Completions."""
    text = asked["messages"][-1]["content"]
    message = {"role": "assistant", "content": f"answer to {text}"}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }  # fmt: skip


def lines_of(rows: list[dict]) -> bytes:
    """Write results as JSON lines, the last row first."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in reversed(rows))


def chat_rows(count: int, /, *, model: str = "house-skills", **more: object) -> bytes:
    """Write the input of a batch of `count` questions."""
    rows = (
        {"custom_id": f"row-{i}", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": model, "messages": [{"role": "user", "content": f"roman {i}"}], **more}}
        for i in range(count)
    )  # fmt: skip
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def message_rows(count: int, /, *, model: str = "house-skills", **more: object) -> list[dict]:
    """Write the rows of an Anthropic batch of `count` questions."""
    return [
        {"custom_id": f"row-{i}", "params": {
            "model": model, "max_tokens": 9,
            "messages": [{"role": "user", "content": f"roman {i}"}], **more}}
        for i in range(count)
    ]  # fmt: skip


@asynccontextmanager
async def serving(vendor: Vendor) -> AsyncIterator[Vendor]:
    """Serve a vendor on loopback."""
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", vendor.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    vendor.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    try:
        yield vendor
    finally:
        await runner.cleanup()


def signed(got: Got) -> str:
    """The order to mark that came with a request."""
    return {name.lower(): value for name, value in got.headers.items()}[MARK_HEADER]
