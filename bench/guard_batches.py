"""A batch of 200 MB through the gateway: CPU, memory, and what questions beside it feel.

The gateway runs in a process of its own, with the record on; so does a model server that takes any
upload and gives results of the same length back.

    python bench/guard_batches.py [--rows 50000] [--row-bytes 4000]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.gateway import run_gateway
from stillwatch.record.journal import read_journal
from stillwatch.siege.processes import OnReady, ProcessGroup

_TICKS = os.sysconf("SC_CLK_TCK")
_KEY = "authorization: Bearer key-1\r\n"
_ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 50},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 50, "total_tokens": 59},
}  # fmt: skip


class _ModelServer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    n_rows = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_POST(self) -> None:
        """Take anything."""
        left = int(self.headers["content-length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        if self.path.endswith("/files"):
            told: dict[str, Any] = {"id": "file-input", "object": "file", "purpose": "batch"}
        elif self.path.endswith("/completions"):
            told = _ANSWER
        else:
            told = {"id": "batch_1", "object": "batch", "status": "completed",
                    "input_file_id": "file-input", "output_file_id": "file-output"}  # fmt: skip
        self._reply([json.dumps(told).encode()])

    def do_GET(self) -> None:
        """Give the results."""
        body = json.dumps(_ANSWER)
        self._reply([
            f'{{"id":"r","custom_id":"row-{n:07d}","response":{{"status_code":200,'
            f'"request_id":"q","body":{body}}},"error":null}}\n'.encode()
            for n in range(self.n_rows)
        ])  # fmt: skip

    def _reply(self, parts: list[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-length", str(sum(map(len, parts))))
        self.end_headers()
        for start in range(0, len(parts), 100):
            self.wfile.write(b"".join(parts[start : start + 100]))


def run_model_server(n_rows: int, on_ready: OnReady) -> None:
    """Serve until ended.

    Args:
        n_rows: of the results.
        on_ready: told the port.
    """
    _ModelServer.n_rows = n_rows
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ModelServer)
    on_ready(server.server_address[1])
    server.serve_forever()


def _write_form(path: Path, *, n_rows: int, row_bytes: int) -> None:
    text = ("the words of a question " * (row_bytes // 24 + 1))[: row_bytes - 180]
    with path.open("w") as file:
        file.write('--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n')
        file.write('--b\r\ncontent-disposition: form-data; name="file"; filename="r"\r\n\r\n')
        for n in range(n_rows):
            body = {"model": "m", "messages": [{"role": "user", "content": f"{n} {text}"}]}
            row = {"custom_id": f"row-{n:07d}", "method": "POST", "url": "/v1/chat/completions"}
            file.write(json.dumps({**row, "body": body}) + "\n")
        file.write("\r\n--b--\r\n")


def _write_messages(path: Path, *, n_rows: int, row_bytes: int) -> None:
    text = ("the words of a question " * (row_bytes // 24 + 1))[: row_bytes - 150]
    with path.open("w") as file:
        for n in range(n_rows):
            turns = [{"role": "user", "content": f"{n} {text}"}]
            params = {"model": "m", "max_tokens": 99, "messages": turns}
            file.write("," if n else '{"requests":[')
            file.write(json.dumps({"custom_id": f"row-{n:07d}", "params": params}))
        file.write("]}")


def _post(port: int, path: Path, target: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock, path.open("rb") as file:
        head = f"POST {target} HTTP/1.1\r\nhost: h\r\n{_KEY}content-length: {path.stat().st_size}"
        sock.sendall(f"{head}\r\ncontent-type: multipart/form-data; boundary=b\r\n\r\n".encode())
        sock.sendfile(file)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")


def _call(port: int, method: str, path: str, *, body: object = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    headers = {"authorization": "Bearer key-1", "content-type": "application/json"}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    size = 0
    while piece := response.read(1 << 20):
        size += len(piece)
    assert response.status == 200, response.status
    connection.close()
    return size


def _ask_while(port: int, work: Callable[[], object] | None) -> list[float]:
    """Ask a question every 5 ms while something goes on, or 400 times; gives the times (ms)."""
    thread = threading.Thread(target=work) if work is not None else None
    if thread is not None:
        thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    question = json.dumps({"model": "m", "messages": [{"role": "user", "content": "how?"}]})
    times: list[float] = []
    while thread.is_alive() if thread is not None else len(times) < 400:
        began = time.perf_counter()
        headers = {"authorization": "Bearer key-2", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", question, headers)
        connection.getresponse().read()
        times.append(1e3 * (time.perf_counter() - began))
        time.sleep(0.005)
    return sorted(times)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_mb(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = (line.split() for line in lines if line.startswith(("VmHWM", "VmRSS")))
    return {name.rstrip(":"): int(value) / 1024 for name, value, _ in found}


def _steps(port: int, form: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    made = {"input_file_id": "file-input", "endpoint": "/v1/chat/completions"}
    made["completion_window"] = "24h"
    yield "upload", lambda: _post(port, form, "/v1/files")
    yield "batch made", lambda: _call(port, "POST", "/v1/batches", body=made)
    yield "results fetched", lambda: _call(port, "GET", "/v1/files/file-output/content")
    yield "message batch", lambda: _post(port, form.with_name("rows"), "/v1/messages/batches")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--row-bytes", type=int, default=4_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ProcessGroup() as processes:
        form = Path(folder, "form")
        _write_form(form, n_rows=options.rows, row_bytes=options.row_bytes)
        rows = Path(folder, "rows")
        _write_messages(rows, n_rows=options.rows, row_bytes=options.row_bytes)
        upstream = processes.start("model server", run_model_server, options.rows)
        config = GuardConfig(
            upstream=f"http://127.0.0.1:{upstream}",
            state=Path(folder, "state"),
            secrets=Secrets(hash_key=b"bench-key-of-the-guard"),
            port=0,
            learner=LearnerConfig(enabled=False),
        )
        port = processes.start("gateway", run_gateway, config)
        pid = processes.pids["gateway"]
        times = _ask_while(port, None)
        print(f"load {os.getloadavg()[0]:.1f}; input {form.stat().st_size / 1e6:.0f} MB")
        print(f"questions alone: p50 {times[len(times) // 2]:.1f} ms, p99 {times[-4]:.1f} ms")
        print(f"before: {_memory_mb(pid)['VmRSS']:.0f} MB")
        for name, work in _steps(port, form):
            before, began = _cpu_s(pid), time.perf_counter()
            times = _ask_while(port, work)
            cpu_s, wall_s = _cpu_s(pid) - before, time.perf_counter() - began
            p50, p99 = times[len(times) // 2], times[int(0.99 * (len(times) - 1))]
            print(
                f"{name}: {cpu_s:.1f} s CPU ({1e6 * cpu_s / options.rows:.0f} us a row), "
                f"{wall_s:.1f} s; questions beside: p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
                f"longest {times[-1]:.0f} ms; peak {_memory_mb(pid)['VmHWM']:.0f} MB"
            )
        found = (one for _, one in read_journal(config.journal_path))
        n_recorded = sum(one.tags.get("channel") == "batch" for one in found)
        print(f"rows on record: {n_recorded}")


if __name__ == "__main__":
    main()
