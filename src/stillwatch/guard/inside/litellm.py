"""LiteLLM's hooks: decide before a call, record after it.

`StillwatchGuardrail` is a guardrail as LiteLLM's configuration names them. `callback` is the same
as a plain callback: LiteLLM walks a longer way for every piece of a stream as soon as any
guardrail is configured, and this spares it. Mount one of the two.

The classes are made when they are asked for, so that this file can be read without LiteLLM.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from stillwatch.errors import ConfigError, EnvironmentUnfitError, extra
from stillwatch.guard.inside.plugin import Plugin
from stillwatch.guard.routes.replies import Refusal

#: Names the configuration file where LiteLLM's configuration cannot.
CONFIG_VARIABLE: Final = "STILLWATCH_GUARD_CONFIG"
_TYPES: Final = {403: "permission_error", 429: "rate_limit_error"}
Fallback = Literal["fail_open", "fail_closed"]


def __getattr__(name: str) -> Any:
    """Make a class or the callback when it is first asked for.

    Args:
        name: StillwatchGuardrail, StillwatchCallback or callback.

    Returns:
        It.

    Raises:
        AttributeError: there is nothing of that name.
        MissingExtraError: LiteLLM is not installed.
    """
    if name == "StillwatchGuardrail":
        return _guardrail()
    if name == "StillwatchCallback":
        return _callback()
    if name == "callback":
        return _the_callback()
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


@lru_cache(1)
def _guardrail() -> type[Any]:
    with extra("litellm"):
        from litellm.integrations.custom_guardrail import CustomGuardrail

    return _hooked(CustomGuardrail, "StillwatchGuardrail")


@lru_cache(1)
def _callback() -> type[Any]:
    with extra("litellm"):
        from litellm.integrations.custom_logger import CustomLogger

    return _hooked(CustomLogger, "StillwatchCallback")


@lru_cache(1)
def _the_callback() -> Any:
    return _callback()()


def _hooked(base: type[Any], name: str) -> type[Any]:
    class Hooked(base):  # type: ignore[misc]  # LiteLLM may not be there
        """Decides before a call and records after it; see the module."""

        def __init__(
            self,
            *,
            guard_config: str | None = None,
            unreachable_fallback: Fallback = "fail_open",
            **kwargs: Any,
        ) -> None:
            super().__init__(**kwargs)
            self.plugin = _plugin(guard_config, kwargs.get("event_hook"))
            self._fails_open = unreachable_fallback == "fail_open"

        async def async_pre_call_hook(  # noqa: PLR0917 - the order is LiteLLM's
            self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
        ) -> dict[str, Any]:
            refusal = await self.plugin.before(data, call_type, fail_open=self._fails_open)
            if refusal is not None:
                raise error_of(refusal)
            return data

        async def async_log_success_event(  # noqa: PLR0917 - the order is LiteLLM's
            self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            payload = kwargs.get("standard_logging_object")
            self.plugin.succeeded(payload, kwargs.get("litellm_call_id"))

        async def async_post_call_failure_hook(  # noqa: PLR0917 - the order is LiteLLM's
            self,
            request_data: Mapping[str, Any],
            original_exception: BaseException,
            user_api_key_dict: Any,
            traceback_str: str | None = None,
        ) -> None:
            self.plugin.failed(request_data.get("litellm_call_id"), original_exception)

    Hooked.__name__ = Hooked.__qualname__ = name
    return Hooked


def _plugin(guard_config: str | None, mode: object) -> Plugin:
    try:
        check_mode(mode)
        return _plugin_of(config_path(guard_config).resolve())
    except ConfigError as error:
        # LiteLLM starts without a guardrail whose configuration raises a ValueError, with a line in
        # its log: whoever wants a wall must not be left without one by a slip of the pen.
        raise EnvironmentUnfitError(str(error), hint=error.hint) from error


@lru_cache
def _plugin_of(path: Path) -> Plugin:
    # LiteLLM makes guardrails anew when its configuration changes; the folder has one holder.
    return Plugin(path)


def check_mode(mode: object) -> None:
    """Hold that a guardrail is asked before the call; after it there is nothing left to decide.

    Args:
        mode: a name, several, None for a callback, or LiteLLM's object of names by tag.

    Raises:
        ConfigError: pre_call is not among them.
    """
    modes = [mode] if isinstance(mode, str) else mode
    if isinstance(modes, list) and "pre_call" not in modes:
        message = f"inside LiteLLM: mode must be pre_call, got {', '.join(map(str, modes))}"
        raise ConfigError(message, hint="answers are recorded in this mode too")


def config_path(named: str | None) -> Path:
    """Find the configuration file.

    Args:
        named: as LiteLLM's configuration says, or None.

    Returns:
        Its path.

    Raises:
        ConfigError: neither the parameter nor the environment names it.
    """
    path = named or os.environ.get(CONFIG_VARIABLE)
    if not path:
        message = f"inside LiteLLM: guard_config or {CONFIG_VARIABLE} must name guard.toml"
        raise ConfigError(message, hint="write it under litellm_params of the guardrail")
    return Path(path)


def error_of(refusal: Refusal) -> Exception:
    """Write a refusal as the error that LiteLLM hands on with its header lines, on every route.

    Args:
        refusal: what to reply.

    Returns:
        The error to raise.
    """
    with extra("litellm"):
        from litellm.proxy._types import ProxyException

    headers = {"x-should-retry": "false"} if refusal.final else {}
    if refusal.retry_after_s is not None:
        headers["retry-after-ms"] = str(math.ceil(refusal.retry_after_s * 1000))
        headers["retry-after"] = str(math.ceil(refusal.retry_after_s))
    error: Exception = ProxyException(
        message=refusal.message,
        type=_TYPES.get(refusal.status, "api_error"),
        param=None,
        code=refusal.status,
        headers=headers,
        provider_specific_fields={"code": refusal.code},
    )
    return error
