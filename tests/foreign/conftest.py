"""A real LiteLLM proxy in an environment of its own, a model server, and a gateway beside it.

STILLWATCH_LITELLM names the Python of an environment that has LiteLLM and Stillwatch;
`make test-litellm` builds one.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

MASTER = "sk-test-0123456789abcdef0123456789abcdef"
HASH_KEY = b"h" * 32
GUARD_KEY = "guard-key"
_CHAT = {"object": "chat.completion", "created": 1, "model": "m", "id": "chatcmpl-1"}
_TOKENS = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
_LADDER = """
[learner]
enabled = {learner}
every_s = 0
[limits]
reload_s = 0.05
[challenge]
url = "https://verify.example/{{request_id}}"
[ladder]
mode = "enforce"
[[ladder.rules]]
model = "slow"
rungs = [{{ action = "throttle", limit_per_day = 24 }}]
[[ladder.rules]]
model = "bare"
rungs = [{{ action = "strip" }}]
[[ladder.rules]]
model = "asked"
rungs = [{{ action = "challenge" }}]
[[ladder.rules]]
model = "*"
rungs = [{{ action = "block" }}]
"""
_INSIDE = """
state = "{state}"
port = {port}
[inside]
account = "end_user"
settle_s = 0.1
serve_admin = {admin}
"""


@dataclass
class Model:
    """What the model server has been asked."""

    port: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Proxy:
    """A running LiteLLM proxy with the wall inside, and a gateway that it can ask."""

    port: int
    admin_port: int
    inside: Path
    beside: Path
    callback: Path
    model: Model
    log: Path

    def request(
        self, route: str, body: dict[str, Any], *, guardrail: str = "inside", **headers: str
    ) -> urllib.request.Request:
        """Write a request that one of the guardrails looks at."""
        return urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/{route}",
            json.dumps(body | {"guardrails": [guardrail]}).encode(),
            {"authorization": f"Bearer {MASTER}", "content-type": "application/json", **headers},
        )

    def ask(
        self, route: str, body: dict[str, Any], *, guardrail: str = "inside", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask; gives status, header lines and body."""
        request = self.request(route, body, guardrail=guardrail, **headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, {n.lower(): v for n, v in reply.headers.items()}, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                lines = {n.lower(): v for n, v in error.headers.items()}
                return error.code, lines, error.read()

    def chat(self, text: str, account: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        """Ask one question on the chat wire as one end user."""
        guardrail = more.pop("guardrail", "inside")
        messages = [{"role": "user", "content": text}]
        body = {"model": "open", "messages": messages, "user": account, **more}
        return self.ask("chat/completions", body, guardrail=guardrail)


def _stream(path: str, text: str) -> Iterator[str]:
    if path.endswith("/messages"):
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                   "content": [], "stop_reason": None, "stop_sequence": None,
                   "usage": {"input_tokens": 9, "output_tokens": 1}}  # fmt: skip
        events = [
            ("message_start", {"message": message}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            *(("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": part}})
              for part in text),
            ("content_block_stop", {"index": 0}),
            ("message_delta", {"delta": {"stop_reason": "end_turn"},
                               "usage": {"output_tokens": 3}}),
            ("message_stop", {}),
        ]  # fmt: skip
        for name, data in events:
            yield f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
        return
    for part in text:
        choice = {"index": 0, "delta": {"content": part}, "finish_reason": None}
        chunk = _CHAT | {"object": "chat.completion.chunk", "choices": [choice]}
        yield f"data: {json.dumps(chunk)}\n\n"
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunk = _CHAT | {"object": "chat.completion.chunk", "choices": [last], "usage": _TOKENS}
    yield f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"


def _whole(path: str) -> dict[str, Any]:
    if path.endswith("/messages"):
        content = [{"type": "text", "text": "XIV"}]
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                "content": content, "stop_reason": "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": 9, "output_tokens": 3}}  # fmt: skip
    if path.endswith("/responses"):
        content = [{"type": "output_text", "text": "XIV", "annotations": []}]
        output = [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                   "content": content}]  # fmt: skip
        return {"id": "resp_1", "object": "response", "created_at": 1, "model": "m",
                "status": "completed", "output": output, "parallel_tool_calls": True,
                "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0,
                "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}}  # fmt: skip
    choice = {"index": 0, "message": {"role": "assistant", "content": "XIV"},
              "finish_reason": "stop"}  # fmt: skip
    return _CHAT | {"choices": [choice], "usage": _TOKENS}


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(404, b"{}", "application/json")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model.seen.append(body)
            if "fail" in json.dumps(body):
                self._send(400, b'{"error": {"message": "no", "type": "x"}}', "application/json")
            elif "slowly" in json.dumps(body):
                self._send_slowly(_stream(self.path, "XIV " * 40))
            elif body.get("stream"):
                text = "".join(_stream(self.path, "XIV"))
                self._send(200, text.encode(), "text/event-stream")
            else:
                self._send(200, json.dumps(_whole(self.path)).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _send_slowly(self, events: Iterator[str]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            with contextlib.suppress(OSError):
                for event in events:
                    self.wfile.write(event.encode())
                    time.sleep(0.02)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    """A model server that answers XIV on three wires."""
    found = Model()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(found)) as server:
        found.port = server.server_address[1]
        Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
    pytest.fail(f"did not start: {log.read_text(errors='replace')[-2000:]}")


def _config(model: Model, *, inside: Path, gateway: int, dead: int) -> dict[str, Any]:
    base = f"http://127.0.0.1:{model.port}"
    names = ("open", "slow", "bare", "asked", "shut")
    openai = {"api_base": f"{base}/v1", "api_key": "x", "model": "openai/m"}
    anthropic = {"api_base": base, "api_key": "x", "model": "anthropic/m"}
    endpoint = {"guardrail": "generic_guardrail_api", "mode": ["pre_call", "post_call"],
                "api_key": GUARD_KEY, "streaming_end_of_stream_only": True,
                "extra_headers": ["x-forwarded-for"]}  # fmt: skip
    plugin = "stillwatch.guard.inside.litellm.StillwatchGuardrail"
    rails = {
        "inside": {"guardrail": plugin, "mode": "pre_call", "guard_config": str(inside)},
        "beside": endpoint | {"api_base": f"http://127.0.0.1:{gateway}"},
        "fail-open": endpoint | {"api_base": f"http://127.0.0.1:{dead}",
                                 "unreachable_fallback": "fail_open"},
        "fail-closed": endpoint | {"api_base": f"http://127.0.0.1:{dead}"},
    }  # fmt: skip
    return {
        "model_list": [
            *({"model_name": name, "litellm_params": openai} for name in names),
            {"model_name": "claude", "litellm_params": anthropic},
        ],
        "guardrails": [
            {"guardrail_name": name, "litellm_params": told} for name, told in rails.items()
        ],
        "router_settings": {"num_retries": 0},
        "litellm_settings": {"callbacks": ["stillwatch.guard.inside.litellm.callback"]},
        "general_settings": {"master_key": MASTER},
    }


@contextlib.contextmanager
def _running(arguments: list[str], log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments, cwd=log.parent, stdout=out, stderr=out, env={**os.environ, **environ}
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="session")
def proxy(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """LiteLLM with the wall inside, and a gateway whose endpoint it can ask."""
    python = os.environ.get("STILLWATCH_LITELLM")
    if not python:
        pytest.skip("STILLWATCH_LITELLM names no Python with LiteLLM: run `make test-litellm`")
    folder = tmp_path_factory.mktemp("litellm")
    ports = {name: _free_port() for name in ("proxy", "admin", "gateway", "dead")}
    walls = [
        ("inside", "admin", "true"),
        ("beside", "gateway", "false"),
        ("callback", "dead", "false"),
    ]
    for name, port, learner in walls:
        head = _INSIDE.format(state=name, port=ports[port], admin=learner)
        (folder / f"{name}.toml").write_text(head + _LADDER.format(learner=learner))
    told = _config(
        model, inside=folder / "inside.toml", gateway=ports["gateway"], dead=ports["dead"]
    )
    (folder / "litellm.json").write_text(json.dumps(told))
    secrets = {
        "STILLWATCH_HASH_KEY": HASH_KEY.hex(), "STILLWATCH_LITELLM_KEY": GUARD_KEY,
        "STILLWATCH_ADMIN_TOKEN": "admin-token", "STILLWATCH_CHALLENGE_SECRET": "c" * 32,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "STILLWATCH_GUARD_CONFIG": "callback.toml",
    }  # fmt: skip
    logs = [folder / "proxy.log", folder / "gateway.log"]
    command = [python, "-m", "litellm.proxy.proxy_cli", "--config", "litellm.json"]
    beside = [sys.executable, "-m", "stillwatch.cli.main", "guard", "serve", "beside.toml"]
    with (
        _running(
            [*command, "--host", "127.0.0.1", "--port", str(ports["proxy"])], logs[0], **secrets
        ) as litellm,
        _running(beside, logs[1], **secrets) as gateway,
    ):
        _wait(f"http://127.0.0.1:{ports['gateway']}/healthz", gateway, logs[1])
        _wait(f"http://127.0.0.1:{ports['proxy']}/health/liveliness", litellm, logs[0])
        states = [folder / name for name, _, _ in walls]
        yield Proxy(ports["proxy"], ports["admin"], *states, model, logs[0])
