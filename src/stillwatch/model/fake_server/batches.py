"""Files and batches of a fake endpoint: OpenAI's two routes, and Anthropic's message batches."""

from __future__ import annotations

from typing import Any

import msgspec

from stillwatch.errors import StillwatchError
from stillwatch.model.fake_server.answers import Answers
from stillwatch.model.fake_server.asked import WIRES, BadAskingError, asked_from
from stillwatch.model.fake_server.batch_shapes import (
    Batch,
    anthropic_batch,
    anthropic_problem,
    lines_of,
    openai_batch,
    openai_problem,
    page_of,
)
from stillwatch.model.fake_server.behaviour import Behaviour
from stillwatch.model.fake_server.files import FileShelf
from stillwatch.model.fake_server.protocol import Connection, HttpRequest
from stillwatch.model.fake_server.tally import Tally
from stillwatch.wire import chat, messages

_JSON = "application/json"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class BatchDesk:
    """Takes files and batches and answers their rows at the end of their time.

    Args:
        behaviour: what is drawn, and the configuration.
        answers: who answers the rows.
        previous: the desk whose files and batches this one goes on with, or None.
    """

    def __init__(
        self, behaviour: Behaviour, answers: Answers, *, previous: BatchDesk | None
    ) -> None:
        self._behaviour = behaviour
        self._config = behaviour.config
        self._answers = answers
        self._shelf: FileShelf = previous._shelf if previous else FileShelf()
        self._batches: dict[str, Batch] = previous._batches if previous else {}
        self._n_refused = self._n_taken = 0
        self._root = ""

    def handle(self, connection: Connection, request: HttpRequest, *, tally: Tally) -> None:
        """Reply to a request for a file or a batch.

        Args:
            connection: where it came from.
            request: what it is.
            tally: where batches and their rows are counted.
        """
        parts = request.path.strip("/").removeprefix("v1/").split("/")
        reply: tuple[int, bytes] | None
        if parts[0] == "files":
            reply = self._shelf.handle(request, parts[1:])
        elif parts[0] == "batches":
            reply = self._handle_batch(request, parts[1:], kind="openai", tally=tally)
        elif parts[:2] == ["messages", "batches"]:
            reply = self._handle_batch(request, parts[2:], kind="anthropic", tally=tally)
        else:
            reply = 404, chat.encode_error(404, "no such route")
        if reply is None:
            connection.drop()
            return
        status, body = reply
        tally.statuses[status] += 1
        kind = "application/x-jsonl" if parts[-1] in {"results", "content"} else _JSON
        connection.reply(status, body, kind=kind)

    def _handle_batch(
        self, request: HttpRequest, rest: list[str], *, kind: str, tally: Tally
    ) -> tuple[int, bytes] | None:
        self._root = f"http://{request.headers.get('host', '127.0.0.1')}"
        show = self._show_openai if kind == "openai" else self._show_anthropic
        fail = chat.encode_error if kind == "openai" else messages.encode_error
        if request.method == "POST" and not rest:
            try:
                batch = self._submit(request.body, kind=kind, tally=tally)
            except (BadAskingError, msgspec.DecodeError, KeyError, TypeError) as error:
                return 400, fail(400, f"not a batch: {type(error).__name__}")
            self._n_taken += 1
            is_told = self._n_taken > self._config.batches_unanswered
            return (200, _encode(show(batch))) if is_told else None
        mine = [b for b in reversed(self._batches.values()) if b.kind == kind]
        if not rest:
            return 200, _encode(page_of([show(b) for b in mine], request.query))
        found = next((b for b in mine if b.batch_id == rest[0]), None)
        is_early = rest[1:] == ["results"] and found is not None and not found.has_ended
        if found is None or is_early:
            return 404, fail(404, "no such batch, or it has not ended")
        if rest[1:] == ["results"]:
            return 200, lines_of(found.results)
        found.cancelled = found.cancelled or rest[1:] == ["cancel"]
        return 200, _encode(show(found))

    def _submit(self, content: bytes, *, kind: str, tally: Tally) -> Batch:
        body = _decode(content)
        if kind == "openai":
            return self._submit_openai(body, tally)
        return self._submit_anthropic(body, tally, n_bytes=len(content))

    def _submit_openai(self, body: dict[str, Any], tally: Tally) -> Batch:
        wire = WIRES[body["endpoint"].removeprefix("/v1")]
        content = self._shelf.content(body["input_file_id"])
        problem = openai_problem(body, content)
        batch = self._begin("openai", tally)
        batch.endpoint, batch.input_file_id = body["endpoint"], body["input_file_id"]
        batch.metadata, batch.failure = body.get("metadata"), problem
        lines = content.splitlines()
        batch.n_rows = len(lines)
        if problem is not None:
            return batch
        if self._n_refused < self._config.batches_refused:
            self._n_refused += 1
            batch.failure = "token_limit_exceeded"
            return batch
        for line in lines:
            row = _decode(line)
            kind, told = self._row(wire, row["body"], tally=tally)
            result = {"id": f"batch_req_{len(batch.results)}", "custom_id": row["custom_id"]}
            if kind == "succeeded":
                response = {"status_code": 200, "request_id": "req", "body": told}
                batch.results.append({**result, "response": response, "error": None})
            elif kind == "expired":
                error = {"code": "batch_expired", "message": "not executed before the window ended"}
                batch.errors.append({**result, "response": None, "error": error})
            else:
                response = {"status_code": 500, "request_id": "req", "body": {"error": told}}
                batch.errors.append({**result, "response": response, "error": None})
            batch.kinds[kind] = batch.kinds.get(kind, 0) + 1
        return batch

    def _submit_anthropic(self, body: dict[str, Any], tally: Tally, *, n_bytes: int) -> Batch:
        problem = anthropic_problem(body, n_bytes=n_bytes)
        if problem is not None:
            raise BadAskingError(problem)
        batch = self._begin("anthropic", tally)
        batch.n_rows = len(body["requests"])
        for row in body["requests"]:
            kind, told = self._row("anthropic.messages", row["params"], tally=tally)
            result: dict[str, Any] = {"type": kind}
            if kind == "succeeded":
                result["message"] = told
            elif kind == "errored":
                error = {"type": "error", "error": {"type": "api_error", "message": "it failed"}}
                result["error"] = {**error, "request_id": None}
            batch.results.append({"custom_id": row["custom_id"], "result": result})
            batch.kinds[kind] = batch.kinds.get(kind, 0) + 1
        return batch

    def _begin(self, kind: str, tally: Tally) -> Batch:
        head = "batch" if kind == "openai" else "msgbatch"
        batch_id = f"{head}_{len(self._batches) + 1:06d}"
        batch = Batch(batch_id, kind=kind, seconds=self._config.batch_s)
        self._batches[batch_id] = batch
        tally.n_batches += 1
        return batch

    def _row(self, wire: str, body: object, *, tally: Tally) -> tuple[str, Any]:
        """Answer one row; it is billed only when it succeeds."""
        failed = {"type": "server_error", "message": "the row failed", "code": None}
        try:
            asked = asked_from(wire, body)
            attempt = tally.arrive(asked.key)
            tally.under_way -= 1
            drawn = self._behaviour.draw(f"batch:{attempt}", asked.key)
            if drawn < self._config.batch_errored_share:
                return "errored", failed
            if drawn < self._config.batch_errored_share + self._config.batch_expired_share:
                return "expired", None
            reply = self._answers.reply(asked)
        except (BadAskingError, StillwatchError):
            return "errored", failed
        tally.bill(
            asked.key,
            input_tokens=reply.input_tokens or 0,
            output_tokens=reply.output_tokens or 0,
        )
        tally.n_batch_rows += 1
        return "succeeded", msgspec.Raw(self._answers.encode(asked, reply))

    def _show_openai(self, batch: Batch) -> dict[str, Any]:
        if batch.has_ended and batch.output_file_id is None and batch.failure is None:
            # Vendors leave out a file that would be empty.
            if batch.results:
                batch.output_file_id = self._shelf.keep("output.jsonl", lines_of(batch.results))
            if batch.errors and batch.error_file_id is None:
                batch.error_file_id = self._shelf.keep("errors.jsonl", lines_of(batch.errors))
        return openai_batch(batch)

    def _show_anthropic(self, batch: Batch) -> dict[str, Any]:
        return anthropic_batch(batch, root=self._root)
