"""Connections to Redis, and the one place where its errors become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from stillwatch.errors import ConfigError, EnvironmentUnfitError, extra
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.seal import Seal

if TYPE_CHECKING:
    import redis
    import redis.asyncio

#: Seconds that the learner and the tables wait for an answer: they are in no question's way, and
#: move megabytes.
_PATIENCE_S: Final = 10.0
_CONNECT_S: Final = 2.0
#: Of a gateway, at once: a flood of a campaign's questions waits here, not at Redis.
_CONNECTIONS: Final = 32


def connect(config: SharedConfig, password: str | None) -> redis.Redis:
    """Make a client that blocks, for the learner and worker threads.

    Args:
        config: with a URL.
        password: from the environment, or None.

    Returns:
        The client; it connects when first used.

    Raises:
        MissingExtraError: the package `redis` is not installed.
    """
    with extra("redis"):
        import redis
    assert config.url is not None, "only asked when state is shared"
    return redis.Redis.from_url(
        config.url,
        socket_timeout=_PATIENCE_S,
        socket_connect_timeout=_CONNECT_S,
        **_options(config, password),
    )


def connect_async(config: SharedConfig, password: str | None) -> redis.asyncio.Redis:
    """Make a client for the event loop, as impatient as a question.

    Args:
        config: with a URL.
        password: from the environment, or None.

    Returns:
        The client; it connects when first used.

    Raises:
        MissingExtraError: the package `redis` is not installed.
    """
    with extra("redis"):
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    assert config.url is not None, "only asked when state is shared"
    pool: redis.asyncio.BlockingConnectionPool = redis.asyncio.BlockingConnectionPool.from_url(
        config.url,
        max_connections=_CONNECTIONS,
        timeout=config.timeout_s,
        socket_timeout=config.timeout_s,
        socket_connect_timeout=config.timeout_s,
        # A question is asked once; what fails is decided here, not asked again.
        retry=Retry(NoBackoff(), 0),
        **_options(config, password),
    )
    return redis.asyncio.Redis.from_pool(pool)


def _options(config: SharedConfig, password: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {"password": password, "client_name": "stillwatch"}
    if config.url is not None and config.url.startswith("rediss:"):
        options["ssl_cert_reqs"] = "required"
        options["ssl_check_hostname"] = True
        if config.ca_file is not None:
            options["ssl_ca_certs"] = str(config.ca_file)
    return options


def octets(answer: bytes | str) -> bytes:
    """Take an answer of Redis for what it is: these clients decode nothing.

    Args:
        answer: of a client that was made here.

    Returns:
        The same.
    """
    assert isinstance(answer, bytes), "made without decode_responses"
    return answer


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Translate what the client raises.

    Args:
        doing: what was tried, to follow "cannot".

    Yields:
        Once.

    Raises:
        EnvironmentUnfitError: Redis is away, slow, full, or refuses the password.
    """
    from redis.exceptions import AuthenticationError, RedisError

    try:
        yield
    except AuthenticationError as error:
        message = f"shared: cannot {doing}: Redis refuses the password"
        hint = "set STILLWATCH_REDIS_PASSWORD to the server's"
        raise EnvironmentUnfitError(message, hint=hint) from error
    except (RedisError, OSError) as error:
        # The client's own words may hold the server's address.
        message = f"shared: cannot {doing}: Redis is away or refuses ({type(error).__name__})"
        raise EnvironmentUnfitError(message, hint="check the server and [shared] url") from error


def demand_one_key(client: redis.Redis, config: SharedConfig, seal: Seal) -> None:
    """See to it that all gateways of a prefix have one hash key.

    Args:
        client: that blocks.
        config: names the prefix.
        seal: of this gateway.

    Raises:
        ConfigError: gateways that came before have another key.
        EnvironmentUnfitError: Redis is away.
    """
    name, mine = config.key("key"), seal.proof()
    with translated("compare the hash keys"):
        client.set(name, mine, nx=True)
        found = client.get(name)
    if found is None or octets(found).decode("ascii", "replace") != mine:
        message = "environment: STILLWATCH_HASH_KEY must be the one that the other gateways have"
        raise ConfigError(message, hint="or give these gateways a [shared] prefix of their own")
