"""A fake endpoint on loopback: three wires, two batch interfaces, scripted misbehaviour.

For tests of whatever asks a model, ours and our users', and for benches, which count at the server
what a client asked twice. It counts every question by its turns, answers fast enough (own HTTP on
uvloop) that the client is what is measured, and repeats from its seed.

    python -m stillwatch.model.fake_endpoint --port 8000 --config '{"delay_s": 0.05}'

`GET /fake/counts?keys=1` tells the counts, `POST /fake/reset` begins them anew, `POST /fake/config`
changes how it behaves.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec
import uvloop

from stillwatch.errors import EnvironmentUnfitError, ModelError, reject
from stillwatch.model.fake_server.answers import Handler
from stillwatch.model.fake_server.asked import count_tokens
from stillwatch.model.fake_server.config import FakeConfig
from stillwatch.model.fake_server.service import Service
from stillwatch.model.fake_server.tally import Counts, question_key

__all__ = ["Counts", "FakeConfig", "FakeEndpoint", "Handler", "count_tokens", "question_key"]

_HOST = "127.0.0.1"


class FakeEndpoint:
    """A fake endpoint, up while its `with` block runs.

    Args:
        config: how it behaves; it may be changed while it runs.
        handler: answers instead of the configuration; only for an endpoint in a thread.
        port: 0 chooses a free one.
        process: run it in a process of its own instead of a thread, so that it takes no time from
            the client; it ends with this process.
        cpus: the processor cores that its process may use, or None for all.

    Example:
        >>> import urllib.request
        >>> with FakeEndpoint(FakeConfig(answers={"1+1?": "2"})) as endpoint:
        ...     body = b'{"messages": [{"role": "user", "content": "1+1?"}]}'
        ...     reply = urllib.request.urlopen(f"{endpoint.base_url}/chat/completions", body).read()
        ...     (b'"content":"2"' in reply, endpoint.counts().n_billed)
        (True, 1)
    """

    def __init__(
        self,
        config: FakeConfig = FakeConfig(),  # noqa: B008 - immutable
        *,
        handler: Handler | None = None,
        port: int = 0,
        process: bool = False,
        cpus: frozenset[int] | None = None,
    ) -> None:
        if process and handler is not None:
            reject("FakeEndpoint", "handler", "None for an endpoint in a process", got="one")
        if cpus is not None and not process:
            reject("FakeEndpoint", "cpus", "None for an endpoint in a thread", got=sorted(cpus))
        self._config = config
        self._handler = handler
        self._port = port
        self._in_process = process
        self._cpus = cpus
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Its root, as the `anthropic` client wants it."""
        return f"http://{_HOST}:{self._port}"

    @property
    def base_url(self) -> str:
        """Its root with the version, as the `openai` client and `HttpModel` want it."""
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self._child.pid if self._child is not None else os.getpid()

    def start(self) -> Self:
        """Serve, and return once questions are taken.

        Returns:
            Itself.

        Raises:
            EnvironmentUnfitError: the port is taken, or the process did not start.
        """
        if self._in_process:
            self._start_process()
        else:
            self._start_thread()
        return self

    def stop(self) -> None:
        """Stop serving. A second call does nothing."""
        if self._child is not None:
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            self._child.stdin.close()
            self._child.stdout.close()
            self._child.wait()
            self._child = None
        if self._thread is not None:
            assert self._loop is not None
            assert self._stop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    def counts(self, *, with_keys: bool = False) -> Counts:
        """Say what it was asked.

        Args:
            with_keys: tell the counts of each question too.

        Returns:
            The counts.
        """
        body = self._call("GET", "/fake/counts" + ("?keys=1" if with_keys else ""))
        return msgspec.json.decode(body, type=Counts)

    def reset(self) -> None:
        """Begin the counts anew."""
        self._call("POST", "/fake/reset")

    def configure(self, config: FakeConfig) -> None:
        """Behave otherwise from now on; what is under way ends as it began.

        Args:
            config: how.
        """
        self._call("POST", "/fake/config", msgspec.json.encode(config))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=30)
        try:
            connection.request(method, path, body=body)
            response = connection.getresponse()
            found = response.read()
        finally:
            connection.close()
        if response.status != 200:
            message = f"fake endpoint: {path} gave status {response.status}"
            raise ModelError(message)
        return found

    def _start_thread(self) -> None:
        listener = _listen(self._port)
        self._port = listener.getsockname()[1]
        ready = threading.Event()

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            service = Service(self._config, self._handler)
            await _serve(service, listener, stop=self._stop, on_ready=ready.set)

        name = "fake-endpoint"
        self._thread = threading.Thread(target=lambda: uvloop.run(serve()), name=name, daemon=True)
        self._thread.start()
        ready.wait()

    def _start_process(self) -> None:
        settings = msgspec.json.encode(self._config).decode()
        command = [sys.executable, "-m", "stillwatch.model.fake_endpoint", "--until-stdin-closes"]
        command += ["--port", str(self._port), "--config", settings]
        if self._cpus is not None:
            command += ["--cpus", ",".join(map(str, sorted(self._cpus)))]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdout is not None
        line = self._child.stdout.readline().decode().strip()
        if not line:
            self.stop()
            message = "fake endpoint: its process did not start"
            raise EnvironmentUnfitError(message, hint="is the port free?")
        self._port = int(line.rpartition(":")[2])


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError as error:
        listener.close()
        message = f"fake endpoint: port {port} is taken"
        raise EnvironmentUnfitError(message, hint="choose another, or 0 for any") from error
    listener.listen(1024)
    return listener


async def _serve(
    service: Service, listener: socket.socket, *, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(service.connect, sock=listener, backlog=1024)
    on_ready()
    await stop.wait()
    server.close()
    service.close()
    await asyncio.sleep(0)  # closed transports leave at the loop's next turn


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is told to stop.

    Args:
        arguments: of the command line; None takes the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m stillwatch.model.fake_endpoint")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--config", default="{}", help="a FakeConfig as JSON, or a file of one")
    parser.add_argument("--cpus", default="", help="cores it may use, separated by commas")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent")
    given = parser.parse_args(arguments)
    if given.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in given.cpus.split(",")})
    text = given.config if given.config.startswith("{") else Path(given.config).read_text()
    config = msgspec.json.decode(text, type=FakeConfig)
    listener = _listen(given.port)

    def say() -> None:
        sys.stdout.write(f"http://{_HOST}:{listener.getsockname()[1]}\n")
        sys.stdout.flush()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if given.until_stdin_closes:
            threading.Thread(
                target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)),
                daemon=True,
            ).start()
        await _serve(Service(config), listener, stop=stop, on_ready=say)

    uvloop.run(serve())


if __name__ == "__main__":
    main()
