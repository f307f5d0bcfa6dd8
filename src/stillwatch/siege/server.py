"""The house model server: OpenAI Chat Completions over local models, one process, one torch thread.

`build_app` is the ASGI application, `run_model_server` the process entry.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.model.local import LocalModel
from stillwatch.siege.completions import MARKED_HEADER, ModelServer, Refusal, one_torch_thread
from stillwatch.siege.server_config import MarkConfig, ServerConfig

__all__ = [
    "MARKED_HEADER",
    "MarkConfig",
    "ServerConfig",
    "build_app",
    "listen",
    "make_server",
    "run_model_server",
]


def build_app(
    models: Mapping[str, LocalModel],
    config: ServerConfig,
    *,
    on_startup: Callable[[], None] | None = None,
) -> Starlette:
    """Build the ASGI application.

    Args:
        models: loaded models by the name that questions ask for.
        config: keys, marks and limits; its folders, host and port are not looked at.
        on_startup: called once the application can answer.

    Returns:
        The application; it must be run with its lifespan.
    """
    server = ModelServer(models, config)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if on_startup is not None:
            on_startup()
        try:
            yield
        finally:
            server.close()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", server.complete, methods=["POST"]),
            Route("/v1/models", server.list_models),
            Route("/v1/models/{name:path}", server.show_model),
            Route("/healthz", server.health),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


def run_model_server(config: ServerConfig, on_ready: Callable[[int], None] | None = None) -> None:
    """Load the models and serve until told to end; the entry of a process.

    Args:
        config: models, address, secrets and limits.
        on_ready: called with the port once questions are answered.

    Raises:
        EnvironmentUnfitError: the port is busy or may not be used.
        RecordError: a model folder cannot be loaded.
        MissingExtraError: torch is not installed.
    """
    listener = listen(config.host, config.port)
    try:
        one_torch_thread()
        models = {name: LocalModel.load(path, name=name) for name, path in config.models.items()}
        port = int(listener.getsockname()[1])
        started = None if on_ready is None else partial(on_ready, port)
        app = build_app(models, config, on_startup=started)
        make_server(app).run(sockets=[listener])
    finally:
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """Take a port before anything slow is loaded.

    Args:
        host: address of this machine.
        port: 0 for a free one.

    Returns:
        A listening socket.

    Raises:
        EnvironmentUnfitError: the port is busy or may not be used.
    """
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        message = f"model server: cannot listen on {host}:{port}: {error.strerror}"
        raise EnvironmentUnfitError(
            message, hint="choose another port, or 0 for a free one"
        ) from error


def make_server(app: Starlette) -> uvicorn.Server:
    """Wrap the application in the house's uvicorn settings.

    Args:
        app: as `build_app` gives it.

    Returns:
        A server, to be run with a listening socket.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            access_log=False,
            ws="none",
            # Longer than any client's idle limit, or questions run into closing connections.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
    )


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(status, "invalid_request")
    return Refusal(status, f"model server: {getattr(error, 'detail', '')}", code=code).response()
