"""Mark files: the key a provider has, in the words of the system that embeds it.

A mark file is TOML or JSON with a `scheme`, or a serving engine's own configuration as it stands:
transformers' `WatermarkingConfig` and `SynthIDTextWatermarkingConfig` (`to_dict`), vLLM's
`--watermark-config`. Keys may stand in an environment variable named by `key_env` instead.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.trace.marks.green import GreenMark
from stillwatch.trace.marks.gumbel import gumbel_mark
from stillwatch.trace.marks.keys import sub_key
from stillwatch.trace.marks.kgw import TransformersGreenMark
from stillwatch.trace.marks.protocol import Mark
from stillwatch.trace.marks.synthid import SynthIdMark
from stillwatch.trace.marks.tournament import tournament_mark
from stillwatch.trace.marks.vllm import VllmGreenMark, VllmGumbelMark
from stillwatch.trace.watermark import GreenListMark, mark_key_id

#: Widths that vLLM takes when none is configured.
_SBW_WIDTHS = {"selfhash": 4, "lefthash": 1}


@dataclass(frozen=True)
class MarkFile:
    """What a mark file says.

    Attributes:
        scheme: which system's mark it is.
        mark: the mark under the file's own key.
        master_key: the secret that campaigns' sub-keys come from, or None.
    """

    scheme: str
    mark: Mark
    master_key: bytes | None = field(default=None, repr=False)

    def campaign(self, campaign_id: str) -> Mark:
        """Give one campaign's mark.

        Args:
            campaign_id: as the verdict names it.

        Returns:
            The same scheme under the campaign's sub-key.

        Raises:
            ConfigError: the file holds an engine's single key, from which none can be derived.
        """
        if self.master_key is None:
            message = f"mark file: scheme {self.scheme!r} holds one key and no master key"
            raise ConfigError(message, hint="campaigns need a file with `master_key`")
        return self.mark.with_key(sub_key(self.master_key, campaign_id))


class _House(msgspec.Struct, forbid_unknown_fields=True):
    key: str = ""
    master_key: str = ""
    gamma: float = 0.25
    delta: float = 2.0
    context_width: int = 1
    depth: int = 30


class _Transformers(msgspec.Struct, forbid_unknown_fields=True):
    hashing_key: int
    vocab_size: int
    seeding_scheme: Literal["lefthash", "selfhash"] = "lefthash"
    context_width: int = 1
    greenlist_ratio: float = 0.25
    bias: float = 2.0


class _SynthId(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[int]
    ngram_len: int = 5
    sampling_table_size: int = 65_536
    sampling_table_seed: int = 0
    context_history_size: int = 1024
    skip_first_ngram_calls: bool = False
    debug_mode: bool = False
    falling: bool = True


class _Vllm(msgspec.Struct, forbid_unknown_fields=True):
    key: int
    algorithm: Literal["gumbel", "dual_key_gumbel", "red_green", "sbw"] = "gumbel"
    alpha: float = 0.1
    context_width: int | None = None
    prf: Literal["philox"] = "philox"
    gamma: float = 0.25
    delta: float = 2.0
    sbw_scheme: Literal["selfhash", "lefthash"] = "selfhash"
    sbw_gamma: float = 0.5
    sbw_delta: float = 2.0
    deduplicate_contexts: str = "single_turn"
    deduplicate_contexts_max_history: int | None = 8192
    allow_target_only_watermarking: bool = False


def open_mark(path: Path, *, vocab_size: int | None = None) -> Mark:
    """Read the mark of a mark file.

    Args:
        path: TOML (`.toml`) or JSON.
        vocab_size: of the model's configuration; transformers' green lists need it when the file
            does not say.

    Returns:
        The mark under the file's own key.

    Raises:
        ConfigError: the file does not follow its scheme.
    """
    return read_mark_file(path, vocab_size=vocab_size).mark


def read_mark_file(path: Path, *, vocab_size: int | None = None) -> MarkFile:
    """Read a mark file.

    Args:
        path: TOML (`.toml`) or JSON.
        vocab_size: as for `open_mark`.

    Returns:
        Scheme, mark and master key.

    Raises:
        ConfigError: the file is not there, is neither TOML nor JSON, or breaks its scheme's rules;
            the message never holds a key.
    """
    settings = _load(path)
    scheme = str(settings.pop("scheme", None) or _guess(settings))
    if scheme not in _SCHEMES:
        allowed = ", ".join(sorted(_SCHEMES))
        message = f"{path}: scheme must be one of {allowed}, got {scheme!r}"
        raise ConfigError(message)
    _take_key_from_environment(path, scheme, settings)
    if scheme == "transformers" and vocab_size is not None:
        settings.setdefault("vocab_size", vocab_size)
    try:
        return _SCHEMES[scheme](settings)
    except msgspec.ValidationError as error:
        message = f"{path}: scheme {scheme!r}: {error}"
        raise ConfigError(message) from None
    except ConfigError:
        raise
    except InvalidInputError as error:
        message = f"{path}: {error}"
        raise ConfigError(message) from None


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else msgspec.json.decode(text)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(message) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError):
        # The parser's own words may quote the line that holds the key.
        message = f"{path}: must be a TOML (.toml) or JSON object"
        raise ConfigError(message) from None
    if not isinstance(found, dict):
        message = f"{path}: must be a TOML (.toml) or JSON object"
        raise ConfigError(message)
    return found


def _guess(settings: Mapping[str, Any]) -> str:
    """Recognise an engine's own configuration by the fields that only it has."""
    if "hashing_key" in settings or "greenlist_ratio" in settings:
        return "transformers"
    if "ngram_len" in settings:
        return "synthid"
    if "algorithm" in settings:
        return "vllm"
    return ""


def _take_key_from_environment(path: Path, scheme: str, settings: dict[str, Any]) -> None:
    variable = settings.pop("key_env", None)
    if variable is None:
        return
    text = os.environ.get(str(variable), "")
    name = {"transformers": "hashing_key", "synthid": "keys"}.get(scheme, "key")
    try:
        if scheme in ("transformers", "vllm"):
            settings[name] = int(text)
        elif scheme == "synthid":
            settings[name] = [int(part) for part in text.split(",")]
        else:
            settings["master_key"] = text
    except ValueError:
        message = f"{path}: key_env: the variable {variable} must hold whole numbers"
        raise ConfigError(message) from None


def _house(build: Callable[[_House, bytes], Mark], scheme: str) -> Callable[..., MarkFile]:
    def read(settings: Mapping[str, Any]) -> MarkFile:
        house = msgspec.convert(settings, _House)
        key, master = _hex("key", house.key), _hex("master_key", house.master_key)
        if (key is None) == (master is None):
            message = "mark file: give either `key` or `master_key`"
            raise ConfigError(message)
        secret = key if key is not None else sub_key(master or b"", "")
        return MarkFile(scheme, build(house, secret), master)

    return read


def _hex(name: str, text: str) -> bytes | None:
    if not text:
        return None
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) < 16:
        message = f"mark file: {name} must be at least 32 hex digits, got {len(text)} characters"
        raise ConfigError(message)
    return secret


def _transformers(settings: Mapping[str, Any]) -> MarkFile:
    one = msgspec.convert(settings, _Transformers)
    mark = TransformersGreenMark(
        one.hashing_key, one.vocab_size, one.seeding_scheme, one.context_width,
        one.greenlist_ratio, one.bias,
    )  # fmt: skip
    return MarkFile("transformers", mark)


def _synthid(settings: Mapping[str, Any]) -> MarkFile:
    one = msgspec.convert(settings, _SynthId)
    mark = SynthIdMark(
        tuple(one.keys), one.ngram_len, one.sampling_table_size, one.sampling_table_seed,
        one.falling,
    )  # fmt: skip
    return MarkFile("synthid", mark)


def _vllm(settings: Mapping[str, Any]) -> MarkFile:
    one = msgspec.convert(settings, _Vllm)
    mark: Mark
    if one.algorithm == "sbw":
        width = one.context_width or _SBW_WIDTHS[one.sbw_scheme]
        mark = VllmGreenMark(one.key, one.sbw_scheme, width, one.sbw_gamma, one.sbw_delta)
    elif one.algorithm == "red_green":
        mark = VllmGreenMark(one.key, "philox", one.context_width or 4, one.gamma, one.delta)
    else:
        alpha = one.alpha if one.algorithm == "dual_key_gumbel" else None
        mark = VllmGumbelMark(one.key, one.context_width or 4, alpha)
    return MarkFile("vllm", mark)


def _green(house: _House, key: bytes) -> Mark:
    inner = GreenListMark(key, mark_key_id(key), house.gamma, house.delta, house.context_width)
    return GreenMark(inner)


_SCHEMES: dict[str, Callable[..., MarkFile]] = {
    "green": _house(_green, "green"),
    "gumbel": _house(lambda h, key: gumbel_mark(key, context_width=h.context_width), "gumbel"),
    "tournament": _house(
        lambda h, key: tournament_mark(key, context_width=h.context_width, depth=h.depth),
        "tournament",
    ),
    "transformers": _transformers,
    "synthid": _synthid,
    "vllm": _vllm,
}
