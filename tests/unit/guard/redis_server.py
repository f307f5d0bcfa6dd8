"""A real redis-server on loopback, for the tests of what gateways share."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PASSWORD = "a password of the tests"


@dataclass
class RedisServer:
    """A server that can be stopped and started again, empty."""

    folder: Path
    port: int = 0
    certificate: Path | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        settings = {
            "port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "",
            "appendonly": "no", "requirepass": PASSWORD, "maxmemory-policy": "noeviction",
        }  # fmt: skip
        if self.certificate is not None:
            settings |= {
                "port": 0, "tls-port": self.port, "tls-auth-clients": "no",
                "tls-cert-file": self.certificate, "tls-ca-cert-file": self.certificate,
                "tls-key-file": self.certificate.with_suffix(".key"),
            }  # fmt: skip
        command = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            ["redis-server", *command], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        message = "redis-server did not come up"
        raise RuntimeError(message)

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running(folder: Path, certificate: Path | None = None) -> Iterator[RedisServer]:
    """Run a server; with a certificate (and its key beside it) over TLS only."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs the Debian package redis-server")
    pytest.importorskip("redis", reason="needs the extra redis")
    server = RedisServer(folder, certificate=certificate)
    server.start()
    try:
        yield server
    finally:
        server.stop()
