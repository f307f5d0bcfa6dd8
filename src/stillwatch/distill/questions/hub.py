"""Data sets of the `datasets` library as they lie on disk, read without that library.

Three layouts: what `save_to_disk` writes (a `state.json` that lists Arrow files, or one folder a
split under `dataset_dict.json`), a snapshot of a hub repository (Parquet named after its split),
and the library's cache (`NAME-train.arrow` beside `dataset_info.json`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.errors import InvalidInputError

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
#: `data/train-00000-of-00005.parquet`, `default/train/0000.parquet`, `name-train.arrow`
_SHARD = re.compile(r"^(?:.*-)?([A-Za-z_]+)-\d+-of-\d+.*$")
_NAMED = re.compile(r"^(?:.*-)?(train|test|validation|valid|val|dev|eval)$")


def hub_files(folder: Path, *, split: str = "") -> list[Path]:
    """List the data files of a data set's folder.

    Args:
        folder: the folder.
        split: which split; "" takes `train` where there are several, or the only one.

    Returns:
        The files in order; none when the folder is no data set.

    Raises:
        InvalidInputError: no such split, or a data set that must be flattened first.
    """
    if (folder / _SPLITS).is_file():
        names = _json(folder / _SPLITS).get("splits", [])
        return hub_files(folder / _chosen([str(n) for n in names], split, folder))
    if (folder / _STATE).is_file():
        return _saved(folder)
    files = sorted(folder.rglob("*.parquet")) or sorted(folder.glob("*.arrow"))
    if not files:
        return []
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file), []).append(file)
    if set(by_split) == {""}:
        return []  # a plain folder of files
    return by_split[_chosen(list(by_split), split, folder)]


def label_names(file: Path, metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Find the names behind whole-number labels.

    Args:
        file: a data file of a data set; its `dataset_info.json` tells them, or else
        metadata: of its Arrow schema, where the library writes them, too.

    Returns:
        Column -> names by number; empty when none are told.
    """
    info = file.with_name(_INFO)
    if info.is_file():
        features = _json(info).get("features")
    else:
        features = _schema_features((metadata or {}).get(b"huggingface", b""))
    features = features if isinstance(features, dict) else {}
    return {
        str(name): [str(label) for label in feature["names"]]
        for name, feature in features.items()
        if isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }


def _schema_features(told: bytes) -> Any:
    try:
        found = msgspec.json.decode(told) if told else {}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    info = found.get("info") if isinstance(found, dict) else None
    return info.get("features") if isinstance(info, dict) else {}


def _saved(folder: Path) -> list[Path]:
    state = _json(folder / _STATE)
    if state.get("_indices_files"):
        message = f"{folder.name}: the data set is a selection that was not flattened"
        raise InvalidInputError(message, hint="call flatten_indices() before save_to_disk()")
    files = [folder / str(entry["filename"]) for entry in state.get("_data_files", [])]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        message = f"{folder.name}: {missing[0]} must be there, as {_STATE} lists it"
        raise InvalidInputError(message)
    return files


def _chosen(names: list[str], split: str, folder: Path) -> str:
    if split in names:
        return split
    if not split and len(names) == 1:
        return names[0]
    if not split and "train" in names:
        return "train"
    told = ", ".join(sorted(names)) or "none"
    message = f"{folder.name}: split must be one of {told}, got {split!r}"
    raise InvalidInputError(message, hint='set split = "..." for these questions')


def _split_of(file: Path) -> str:
    """The split that a file's name or folder tells, or ""."""
    match = _SHARD.match(file.stem) or _NAMED.match(file.stem) or _NAMED.match(file.parent.name)
    return match[1] if match is not None else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        message = f"{path.parent.name}/{path.name}: not the JSON of a data set"
        raise InvalidInputError(message) from error
    return found if isinstance(found, dict) else {}
