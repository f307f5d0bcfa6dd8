"""Chat completions from local models: the routes of the house model server.

An answer is complete before its first byte leaves (rows are computed in batches), so a stream
carries it word by word but not sooner. docs/model-server.md describes the wire.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from stillwatch.errors import InvalidInputError, NotPermittedError, extra
from stillwatch.model.local import Generation, GenerationRow, LocalModel
from stillwatch.model.protocol import Reply
from stillwatch.record.exchange import Answer
from stillwatch.siege.answering import assemble, plan_rows, read_sampling
from stillwatch.siege.batcher import Batcher, InferenceThread
from stillwatch.siege.server_config import ServerConfig
from stillwatch.trace.watermark import GreenListMark, campaign_mark
from stillwatch.wire.chat import (
    DONE,
    BadRequestError,
    ChatRequest,
    ReplyHead,
    encode_chunk,
    encode_error,
    encode_response,
    encode_stream,
    encode_usage_chunk,
    parse_chat_request,
)
from stillwatch.wire.signature import MARK_HEADER, verify_mark

#: Names the key whose mark the answer carries.
MARKED_HEADER = "x-stillwatch-marked"
_log = logging.getLogger(__name__)
_WORDS = re.compile(r"\s*\S+|\s+")


class Refusal(Exception):  # noqa: N818 - becomes an HTTP reply, not a failure of ours
    """A question that gets an error reply in the wire's shape.

    Args:
        status: HTTP status.
        message: one sentence for the person who asked.
        code: short code that programs switch on.
        param: the field at fault, or None.
    """

    def __init__(self, status: int, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def response(self) -> Response:
        """Write the reply."""
        body = encode_error(self.status, str(self), code=self.code, param=self.param)
        return Response(body, self.status, media_type="application/json")


class ModelServer:
    """Answers chat completions from loaded models; lives in one event loop.

    Args:
        models: by the name that questions ask for.
        config: as `run_model_server` gets it.
    """

    def __init__(self, models: Mapping[str, LocalModel], config: ServerConfig) -> None:
        self._models = dict(models)
        self._config = config
        self._thread = InferenceThread(one_torch_thread)
        self._batchers: dict[str, Batcher[GenerationRow, Generation]] = {
            name: Batcher(
                model.generate,
                self._thread,
                max_rows=config.max_batch,
                window_s=config.window_s,
            )
            for name, model in models.items()
        }
        self._created = int(time.time())
        # One object a campaign: rows with the same object share the bias computation.
        self._mark_of = lru_cache(maxsize=1024)(self._derive_mark)

    def close(self) -> None:
        """Give up what waits and end the inference thread."""
        for batcher in self._batchers.values():
            batcher.close()
        self._thread.close()

    async def health(self, _: Request) -> Response:
        """Say that the server serves, and how full its batches were."""
        batches = {
            name: {"rows": batcher.n_rows, "batches": batcher.n_batches}
            for name, batcher in self._batchers.items()
        }
        return _json({"status": "ok", "models": batches})

    async def list_models(self, _: Request) -> Response:
        """List the models in the wire's shape."""
        return _json({"object": "list", "data": [self._card(name) for name in self._models]})

    async def show_model(self, request: Request) -> Response:
        """Describe one model in the wire's shape."""
        name = request.path_params["name"]
        if name not in self._models:
            return self._unknown(name).response()
        return _json(self._card(name))

    async def complete(self, request: Request) -> Response:
        """Answer one question, streamed or whole."""
        try:
            return await self._complete(request)
        except Refusal as refusal:
            return refusal.response()
        except BadRequestError as error:
            return Refusal(400, str(error), code=error.code, param=error.param).response()
        except InvalidInputError as error:
            return Refusal(400, str(error), code="invalid_value").response()
        except Exception as error:
            # Its text may quote the question, so the log gets the kind alone.
            _log.exception("an answer failed: %s", type(error).__name__, exc_info=False)
            message = "model server: the answer failed"
            return Refusal(500, message, code="internal_error").response()

    async def _complete(self, request: Request) -> Response:
        self._check_key(request)
        body = await self._read(request)
        asked = parse_chat_request(body)
        model = self._models.get(asked.question.model)
        if model is None:
            raise self._unknown(asked.question.model)
        mark = self._ordered_mark(request, body)
        sampling = read_sampling(asked.question)
        rows = plan_rows(asked.question, sampling, model=model, bias=mark)
        generations = await self._generate(rows, request, name=asked.question.model)
        if generations is None:
            return Response(status_code=499)  # the client has gone; nobody reads this
        reply = assemble(generations, question=asked.question, sampling=sampling, model=model)
        head = ReplyHead(f"chatcmpl-{uuid.uuid4().hex}", asked.question.model, int(time.time()))
        headers = {} if mark is None else {MARKED_HEADER: mark.key_id}
        if asked.is_streamed:
            headers |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
            chunks = _chunks(head, reply, asked)
            return StreamingResponse(_each(chunks), 200, headers, "text/event-stream")
        return Response(encode_response(head, reply), 200, headers, "application/json")

    async def _generate(
        self, rows: list[GenerationRow], request: Request, *, name: str
    ) -> list[Generation] | None:
        """Queue the rows and wait; None when the client went away, with the rows dropped."""
        results = [self._batchers[name].submit(row) for row in rows]
        watch = asyncio.create_task(_cancel_when_gone(request, results))
        try:
            return list(await asyncio.gather(*results))
        except asyncio.CancelledError:
            if watch.done() and not watch.cancelled():
                return None
            raise
        finally:
            watch.cancel()

    async def _read(self, request: Request) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._config.max_body_bytes:
                message = f"chat request: body must be at most {self._config.max_body_bytes} bytes"
                raise Refusal(413, message, code="body_too_long")
            parts.append(part)
        return b"".join(parts)

    def _check_key(self, request: Request) -> None:
        if self._config.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._config.api_key.encode()):
            message = "model server: the bearer token is missing or wrong"
            raise Refusal(401, message, code="invalid_api_key")

    def _ordered_mark(self, request: Request, body: bytes) -> GreenListMark | None:
        """Find the mark that a signed header orders; a bad order is refused, never passed over.

        An unmarked answer to a question that should be marked would be lost to the proof.
        """
        header = request.headers.get(MARK_HEADER)
        if header is None:
            return None
        marks = self._config.marks
        if marks is None:
            message = f"{MARK_HEADER}: this server has no mark secret"
            raise Refusal(403, message, code="mark_refused")
        try:
            age = {} if marks.max_age_s is None else {"max_age_s": marks.max_age_s}
            now = None if marks.max_age_s is None else time.time()
            order = verify_mark(marks.secret, header, body, now=now, **age)
        except (InvalidInputError, NotPermittedError) as error:
            raise Refusal(403, str(error), code="mark_refused") from None
        mark = self._mark_of(order.campaign_id)
        if mark.key_id != order.mark_key_id:
            message = f"{MARK_HEADER}: the key id does not fit this server's master key"
            raise Refusal(403, message, code="mark_refused")
        return mark

    def _derive_mark(self, campaign_id: str) -> GreenListMark:
        marks = self._config.marks
        assert marks is not None  # only called after an order was verified
        return campaign_mark(marks.master_key, campaign_id, gamma=marks.gamma, delta=marks.delta)

    def _unknown(self, name: str) -> Refusal:
        known = ", ".join(sorted(self._models))
        message = f"chat request: model must be one of {known}, got {name[:80]!r}"
        return Refusal(404, message, code="model_not_found", param="model")

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "stillwatch"}


def one_torch_thread() -> None:
    """Hold torch to one thread, in the thread that calls."""
    with extra("train"):
        import torch
    torch.set_num_threads(1)  # two threads on a busy machine are ten times slower


def _chunks(head: ReplyHead, reply: Reply, asked: ChatRequest) -> Iterator[bytes]:
    if any(answer.extra is not None for answer in reply.answers):
        # Log-probabilities stay with their text, so such an answer comes in one piece.
        yield from encode_stream(head, reply, include_usage=asked.include_usage)
        return
    for index, answer in enumerate(reply.answers):
        yield from _words(head, answer, index)
    if asked.include_usage:
        yield encode_usage_chunk(
            head, input_tokens=reply.input_tokens or 0, output_tokens=reply.output_tokens or 0
        )
    yield DONE


def _words(head: ReplyHead, answer: Answer, index: int) -> Iterator[bytes]:
    yield encode_chunk(head, {"role": "assistant", "content": ""}, index=index)
    for word in _WORDS.findall(answer.text):
        yield encode_chunk(head, {"content": word}, index=index)
    yield encode_chunk(head, {}, index=index, finish_reason=answer.finish_reason)


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _cancel_when_gone(request: Request, results: list[asyncio.Future[Generation]]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    for result in results:
        result.cancel()


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
