"""Profiles on disk between runs: yesterday's are merged with today's log.

A folder holds one `profiles.json` and the two Arrow files that it names with their checksums. New
files are written beside the old ones and come into force when `profiles.json` is replaced, so a
run that is killed leaves either the old profiles or the new. Profiles that were folded otherwise
(other settings, another version of the hashes) cannot be merged, and are refused.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.merge import merge
from stillwatch.detect.profiles.overlap import find_overlap
from stillwatch.detect.profiles.probe import Probe, probe_of
from stillwatch.detect.profiles.profile import Profiles, no_profiles
from stillwatch.detect.profiles.table_files import FileHead, read_table, write_table
from stillwatch.detect.profiles.tables import from_tables, to_tables
from stillwatch.errors import RecordError, reject
from stillwatch.record.disk import from_os_error, replace_file

#: Changes when what lies in the files does.
VERSION = 1
_HEAD = "profiles.json"
_FOLD_AGAIN = "fold the logs again into another folder"


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """What must be alike between runs beside the settings.

    Attributes:
        hash_key: tells apart the keys under which networks were hashed, for example a hash under
            that key of a fixed text; compared when both runs know it, "" when not known.
        embedder: what gave the features of questions; "" when they were hashed.
    """

    hash_key: str = ""
    embedder: str = ""


_NONE = Marks()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What `profiles.json` says.

    Attributes:
        profiles: the version of the form.
        probe: what folding one made-up exchange gives: changes whenever hashes or features do.
        config: how the profiles were folded.
        marks: what else must be alike.
        n_accounts: accounts (count).
        n_exchanges: exchanges folded (count).
        first_seen: start of the first exchange, epoch seconds; None when there is none.
        last_seen: start of the last one.
        accounts: the file of accounts.
        digests: the file of digests.
    """

    profiles: int
    probe: Probe
    config: FoldConfig
    marks: Marks
    n_accounts: int
    n_exchanges: int
    first_seen: float | None
    last_seen: float | None
    accounts: FileHead
    digests: FileHead


def is_kept(folder: Path) -> bool:
    """Tell whether a folder holds profiles.

    Args:
        folder: any path.

    Returns:
        True when profiles were saved there.
    """
    return (Path(folder) / _HEAD).exists()


def save_profiles(
    profiles: Profiles, folder: Path, *, config: FoldConfig | None = None, marks: Marks = _NONE
) -> Head:
    """Write profiles so that they stand whole or not at all, in the place of older ones.

    Args:
        profiles: what was folded.
        folder: made if absent.
        config: how it was folded.
        marks: what later runs must have alike.

    Returns:
        What `profiles.json` says now.

    Raises:
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
        RecordError: the disk failed.
    """
    folder, config = Path(folder), config or FoldConfig()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, ".lock", fcntl.LOCK_EX):
            tables = to_tables(profiles)
            accounts = write_table(folder, "accounts", tables.accounts)
            digests = write_table(folder, "digests", tables.digests)
            first, last = _span(profiles)
            head = Head(
                profiles=VERSION,
                probe=probe_of(config),
                config=config,
                marks=marks,
                n_accounts=profiles.n_accounts,
                n_exchanges=profiles.n_exchanges,
                first_seen=first,
                last_seen=last,
                accounts=accounts,
                digests=digests,
            )
            text = msgspec.json.format(msgspec.json.encode(head), indent=2)
            replace_file(folder / _HEAD, text + b"\n")
            _remove_others(folder, {accounts.name, digests.name})
    except OSError as error:
        raise from_os_error(error, path=folder, doing="write the profiles") from error
    return head


def load_profiles(
    folder: Path, *, config: FoldConfig | None = None, marks: Marks = _NONE
) -> Profiles:
    """Read profiles that were saved, if they may be merged with what this run folds.

    Args:
        folder: where `save_profiles` put them.
        config: how this run folds.
        marks: what must be alike.

    Returns:
        The profiles, equal to those saved.

    Raises:
        RecordError: none are there, or they are damaged.
        InvalidInputError: they were folded otherwise than this run folds.
        EnvironmentUnfitError: they may not be read.
    """
    folder = Path(folder)
    try:
        with _locked(folder, ".lock", fcntl.LOCK_SH):
            head = read_head(folder)
            _demand_alike(head, folder / _HEAD, config or FoldConfig(), marks=marks)
            tables = (read_table(folder, head.accounts), read_table(folder, head.digests))
            profiles = from_tables(*tables)
    except KeyError as error:
        message = f"{folder}: profiles must hold {error}, and do not"
        raise RecordError(message, hint=_FOLD_AGAIN) from error
    except pa.ArrowException as error:
        message = f"{folder}: profiles must be readable Arrow, and are not"
        raise RecordError(message, hint=_FOLD_AGAIN) from error
    except OSError as error:
        raise from_os_error(error, path=folder, doing="read the profiles") from error
    if (profiles.n_accounts, profiles.n_exchanges) != (head.n_accounts, head.n_exchanges):
        message = f"{folder / _HEAD}: must count what its files hold, and does not"
        raise RecordError(message, hint=_FOLD_AGAIN)
    return profiles


def read_head(folder: Path) -> Head:
    """Read what `profiles.json` says, without the profiles.

    Args:
        folder: where `save_profiles` put them.

    Returns:
        The head.

    Raises:
        RecordError: there is none, or it is damaged.
        InvalidInputError: it is of a version that this code does not read.
    """
    path = Path(folder) / _HEAD
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{folder}: no profiles here"
        raise RecordError(message, hint="a first run with --profiles writes them") from error
    try:
        version = msgspec.json.decode(raw, type=_Version).profiles
        if version != VERSION:
            reject(str(path), "profiles", f"version {VERSION}", got=version, hint=_FOLD_AGAIN)
        return msgspec.json.decode(raw, type=Head)
    except msgspec.ValidationError as error:
        # the version fits and the fields do not: settings that this code no longer has, or lacks
        message = f"{path}: profiles must be of this version of the package: {error}"
        raise RecordError(message, hint=_FOLD_AGAIN) from error
    except msgspec.DecodeError as error:
        message = f"{path}: must be JSON, and is not"
        raise RecordError(message, hint=_FOLD_AGAIN) from error


def merge_kept(
    fresh: Profiles, folder: Path, *, config: FoldConfig | None = None, marks: Marks = _NONE
) -> Profiles:
    """Merge what was folded now with what a folder keeps; nothing is written.

    A log that was merged before changes nothing, so a run may be repeated.

    Args:
        fresh: the profiles of a new log.
        folder: where older ones are; none there counts as an empty log.
        config: how both were folded.
        marks: what must be alike.

    Returns:
        The profiles of everything.

    Raises:
        RecordError: the kept profiles are damaged.
        InvalidInputError: they were folded otherwise, or a part of the new log is in them already:
            sums of exchanges that are counted twice cannot be put right afterwards.
        EnvironmentUnfitError: they may not be read.
    """
    config = config or FoldConfig()
    if not is_kept(folder):
        return fresh
    kept = load_profiles(folder, config=config, marks=marks)
    overlap = find_overlap(kept, fresh)
    if overlap.is_whole:
        return kept
    if overlap.n_shared:
        got = f"{overlap.n_shared:,} of {overlap.n_looked_for:,} that were compared"
        hint = f"give only what came later, or fold everything into another folder than {folder}"
        reject("detect", "exchanges", "none that the profiles hold already", got=got, hint=hint)
    return merge(kept, fresh, config)


@contextlib.contextmanager
def updating(folder: Path) -> Iterator[None]:
    """Hold a folder of profiles against other runs that would read, add and write at this time.

    Args:
        folder: made if absent.

    Yields:
        Once, when no other run holds it.

    Raises:
        EnvironmentUnfitError: the folder cannot be written.
        RecordError: the disk failed.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".updating").open("w")
    except OSError as error:
        raise from_os_error(error, path=folder, doing="write the profiles") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_accounts(folder: Path, accounts: set[str]) -> int:
    """Take accounts out of kept profiles, with every text and sum that is theirs.

    Args:
        folder: where `save_profiles` put them.
        accounts: ids as the log gave them; unknown ones are passed over.

    Returns:
        Accounts taken out (count).

    Raises:
        RecordError: there are no profiles, or they are damaged.
        EnvironmentUnfitError: the folder cannot be written.
    """
    with updating(folder):
        head = read_head(folder)
        profiles = load_profiles(folder, config=head.config, marks=head.marks)
        stays = np.array([a not in accounts for a in profiles.accounts.to_pylist()], dtype=bool)
        if not stays.all():
            rest = profiles.select(stays) if stays.any() else no_profiles()
            save_profiles(rest, folder, config=head.config, marks=head.marks)
    return int((~stays).sum())


class _Version(msgspec.Struct):
    profiles: int


def _remove_others(folder: Path, names: set[str]) -> None:
    for kind in ("accounts", "digests"):
        for path in folder.glob(f"{kind}-*.arrow"):
            if path.name not in names:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path, name: str, kind: int) -> Iterator[None]:
    with (folder / name).open("a") as lock:
        fcntl.flock(lock, kind)
        yield


def _span(profiles: Profiles) -> tuple[float | None, float | None]:
    if not profiles.n_accounts:
        return None, None
    return float(profiles.totals.first_seen.min()), float(profiles.totals.last_seen.max())


def _demand_alike(head: Head, path: Path, config: FoldConfig, *, marks: Marks) -> None:
    for name in config.__struct_fields__:
        if name == "memory_bytes":  # coarser profiles merge with finer ones: levels are nested
            continue
        kept, now = getattr(head.config, name), getattr(config, name)
        if kept != now:
            reject(str(path), name, f"as in this run, {now!r}", got=kept, hint=_FOLD_AGAIN)
    if not head.probe.is_like(probe_of(config)):
        rule = "that of this version of the package, or hashes would not be comparable"
        reject(str(path), "probe", rule, got=head.probe.hashes, hint=_FOLD_AGAIN)
    if marks.embedder != head.marks.embedder:
        rule = f"as in this run, {marks.embedder!r}"
        reject(str(path), "embedder", rule, got=head.marks.embedder, hint=_FOLD_AGAIN)
    if marks.hash_key and head.marks.hash_key and marks.hash_key != head.marks.hash_key:
        hint = "set STILLWATCH_HASH_KEY to the key of the earlier runs"
        rule = "that of this run, or networks could not be compared"
        reject(str(path), "hash_key", rule, got=head.marks.hash_key, hint=hint)
