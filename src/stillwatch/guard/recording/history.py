"""What decisions depended on, kept so that they can be taken again.

The audit log gets a line whenever the verdicts that a gateway decides from change, with what
changed, and one with hashes when configuration or policy do. The files behind the hashes stand in
the state folder under `kept/`, but for the accounts table: that is personal, and its hash must do.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import msgspec

from stillwatch import __version__
from stillwatch.errors import RecordError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.policy.document import PolicyFile
from stillwatch.guard.wall.verdict import Board, CampaignVerdict, Verdict
from stillwatch.record.exchange import canonical_json

KEPT: Final = "kept"
#: Fields of a board that this module writes in a form of its own.
_OWN_FORM: Final = frozenset({"generation", "verdicts"})
_MEMBER: Final = tuple(f.name for f in fields(Verdict) if f.name not in {"account", "campaign"})


def board_change(before: Board, after: Board) -> dict[str, Any]:
    """Describe how one snapshot of the verdicts became another.

    Args:
        before: the earlier one.
        after: the later one.

    Returns:
        Plain data for the audit log, as short as the change: verdicts that were only renewed are
        one line a campaign.
    """
    change: dict[str, Any] = {"generation": after.generation}
    old, new = before.campaigns(), after.campaigns()
    campaigns = [c for name, c in sorted(new.items()) if old.get(name) != c]
    gone = sorted(before.verdicts.keys() - after.verdicts.keys())
    members, renewed = _member_changes(before, after)
    found = {
        "campaigns": [asdict(campaign) for campaign in campaigns],
        "gone": gone,
        "members": members,
        "renewed": renewed,
    }
    change |= {name: value for name, value in found.items() if value}
    for part in _parts():
        if moved := _part_change(getattr(before, part), getattr(after, part)):
            change[part] = moved
    return change


def changed_board(before: Board, change: Mapping[str, Any]) -> Board:
    """Apply a change that `board_change` described.

    Args:
        before: the earlier snapshot.
        change: from the audit log.

    Returns:
        The later snapshot.

    Raises:
        RecordError: the change does not fit the snapshot.
    """
    try:
        campaigns = before.campaigns()
        rows = msgspec.convert(change.get("campaigns", []), list[CampaignVerdict])
        campaigns |= {row.campaign_id: row for row in rows}
        gone = set(change.get("gone", ()))
        members = {
            account: {"campaign_id": v.campaign.campaign_id, **_values(v)}
            for account, v in before.verdicts.items()
            if account not in gone
        }
        for campaign_id, expires_at in change.get("renewed", ()):
            for row in members.values():
                if row["campaign_id"] == campaign_id:
                    row["expires_at"] = expires_at
        for group in change.get("members", ()):
            values = {name: group[name] for name in ("campaign_id", *_MEMBER)}
            members |= {account: dict(values) for account in group["accounts"]}
        verdicts = {
            account: Verdict(account, campaigns[row.pop("campaign_id")], **row)
            for account, row in sorted(members.items())
        }
        parts = {p: _part(getattr(before, p), change.get(p, {}), p) for p in _parts()}
        return Board(int(change["generation"]), MappingProxyType(verdicts), **parts)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        message = f"the audit log's change of verdicts to generation {change.get('generation')}"
        message += " does not fit the one before"
        raise RecordError(message, hint="verify the log's chain first") from error


def _parts() -> list[str]:
    return [f.name for f in fields(Board) if f.name not in _OWN_FORM]


def _values(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in _MEMBER}


def _member_changes(
    before: Board, after: Board
) -> tuple[list[dict[str, Any]], list[tuple[str, float]]]:
    changed: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    expiries: dict[str, set[float]] = defaultdict(set)
    other = set()
    for account, verdict in after.verdicts.items():
        name, known = verdict.campaign.campaign_id, before.verdicts.get(account)
        expiries[name].add(verdict.expires_at)
        values = _values(verdict)
        if known is not None and known.campaign.campaign_id == name:
            if _values(known) == values:
                continue
            if {**_values(known), "expires_at": verdict.expires_at} != values:
                other.add(name)
        else:
            other.add(name)
        changed[name, *values.values()].append(account)
    names = {key[0] for key in changed}
    alike = {name for name in names - other if len(expiries[name]) == 1}
    # Who left the campaign in the same step is gone, or stands in a group of its new one.
    renewed = [(name, next(iter(expiries[name]))) for name in sorted(alike)]
    members = [
        {**dict(zip(("campaign_id", *_MEMBER), key, strict=True)), "accounts": sorted(accounts)}
        for key, accounts in sorted(changed.items(), key=lambda item: repr(item[0]))
        if key[0] not in alike
    ]
    return members, renewed


def _part_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    put = {k: msgspec.to_builtins(v) for k, v in sorted(after.items()) if before.get(k) != v}
    gone = sorted(before.keys() - after.keys())
    return {name: value for name, value in (("put", put), ("gone", gone)) if value}


def _part(before: Mapping[str, Any], change: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    kind = get_args(get_type_hints(Board)[name])[1]
    gone = set(change.get("gone", ()))
    found = {key: value for key, value in before.items() if key not in gone}
    found |= {key: msgspec.convert(v, kind) for key, v in change.get("put", {}).items()}
    return MappingProxyType(found)


class Running(NamedTuple):
    """What a gateway runs by, as the audit log names it.

    Attributes:
        detail: of the audit event: version, mode, hashes.
        files: what stands behind the hashes: name under `kept/` -> bytes.
    """

    detail: Mapping[str, Any]
    files: Mapping[str, bytes]


def describe_running(config: GuardConfig, policy: PolicyFile | None) -> Running:
    """Describe what a gateway runs by; reads the policy's files.

    Args:
        config: the gateway's; its secrets are left out.
        policy: the rules that run, or None.

    Returns:
        Hashes, and what is behind them.
    """
    plain = msgspec.to_builtins(
        {f.name: getattr(config, f.name) for f in fields(config) if f.name != "secrets"},
        enc_hook=str,
    )
    text = canonical_json(plain).encode()
    name = _sha(text)
    detail: dict[str, Any] = {
        "version": __version__,
        "config": name,
        "mode": config.ladder.mode,
        "simulation": config.simulation,
    }
    files = {f"config-{name}.json": text}
    if policy is not None:
        detail["policy"] = policy.sha256
        detail["lists"] = {source.name: source.sha256 for source in policy.sources}
        files |= _policy_files(policy)
    if config.accounts is not None:
        with suppress(OSError):
            detail["accounts"] = _sha(config.accounts.read_bytes())
    return Running(detail, files)


def _policy_files(policy: PolicyFile) -> dict[str, bytes]:
    wanted = {f"policy-{policy.sha256}.toml": (policy.path, policy.sha256)}
    wanted |= {f"list-{s.sha256}.txt": (s.path, s.sha256) for s in policy.sources}
    found = {}
    for name, (path, sha256) in wanted.items():
        # A file that has changed since is kept when its change takes effect.
        with suppress(OSError):
            raw = path.read_bytes()
            if _sha(raw) == sha256:
                found[name] = raw
    return found


def keep(state: Path, running: Running) -> None:
    """Keep what stands behind the hashes, once each, readable by the owner alone.

    Args:
        state: the gateway's state folder.
        running: what it runs by.

    Raises:
        RecordError: the folder cannot be written.
    """
    folder = state / KEPT
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, raw in running.files.items():
            path = folder / f"{name}.gz"
            if path.exists():
                continue
            part = path.with_name(path.name + ".part")
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                out.write(gzip.compress(raw, mtime=0))
            part.replace(path)
    except OSError as error:
        message = f"{folder}: what the gateway runs by cannot be kept: {error.strerror}"
        raise RecordError(message) from error


def kept(state: Path, name: str) -> bytes:
    """Read what was kept, and check it against its hash.

    Args:
        state: the gateway's state folder.
        name: for example `policy-HASH.toml`.

    Returns:
        The bytes.

    Raises:
        RecordError: it is not there, or not what its name says.
    """
    path = state / KEPT / f"{name}.gz"
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        message = f"{path}: this was not kept, or cannot be read"
        raise RecordError(message) from error
    if _sha(raw) != name.partition("-")[2].partition(".")[0]:
        message = f"{path}: this is not what its name says"
        raise RecordError(message, hint="the file was changed afterwards")
    return raw


def kept_policy(state: Path, sha256: str, *, lists: Mapping[str, str], folder: Path) -> Path:
    """Put a kept policy and its lists back together, so that it can be loaded.

    Args:
        state: the gateway's state folder.
        sha256: of the policy.
        lists: name -> hash of each list, `networks` among them.
        folder: an empty one to put it into.

    Returns:
        The policy file; its lists lie beside it, so paths in it and its hash are not the old ones.

    Raises:
        RecordError: a file was not kept.
    """
    text = kept(state, f"policy-{sha256}.toml").decode()
    document = tomllib.loads(text)
    declared = {name: entry["path"] for name, entry in document.get("lists", {}).items()}
    if "networks" in document:
        declared["networks"] = document["networks"]["path"]
    for number, (name, path) in enumerate(sorted(declared.items())):
        (folder / f"list-{number}.txt").write_bytes(kept(state, f"list-{lists[name]}.txt"))
        for quote in "\"'":
            text = text.replace(f"{quote}{path}{quote}", f'"list-{number}.txt"')
    file = folder / "policy.toml"
    file.write_text(text)
    return file


def _sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
