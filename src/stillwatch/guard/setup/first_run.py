"""The files of a first run: a configuration that only observes, and secrets freshly drawn."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from stillwatch.errors import ConfigError, EnvironmentUnfitError, reject
from stillwatch.guard.config import SECRET_VARIABLES
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.record.privacy import KeyedHash

CONFIG, SECRETS, KEYS, HANDED_OUT = "guard.toml", "guard.env", "keys.jsonl", "handed-out-keys.txt"
_NAME: Final = re.compile(r"[^\s\"\\]{1,200}")

_TEMPLATE: Final = """\
# A gateway that only observes: nothing is done to anybody, every exchange is recorded, campaigns
# are found, and what would have been done is counted. Lines that begin with # are the defaults.
upstream = "{upstream}"          # your model server, without /v1
state = "guard-state"            # record, verdicts and audit log; relative to this file
# host = "127.0.0.1"             # 0.0.0.0 lets others in; put TLS in front of it then
# port = 8900
{keys}
# policy = "policy.toml"         # rules of your own; `stillwatch guard policy test` checks them
# trusted_hops = 0               # proxies of yours in front, whose x-forwarded-for is believed

[ladder]
mode = "observe"                 # "enforce" once the would-have counts look right

[[ladder.rules]]                 # the first rule whose pattern fits the model counts
model = "*"
rungs = [
  {{ action = "log_full" }},                                       # from the first verdict on
  {{ action = "throttle", after_s = 86400, limit_per_day = 100 }}, # for the WHOLE campaign
  {{ action = "block", after_s = 259200, needs_approval = true }}, # waits for an admin's word
]

[learner]
# every_s = 300                  # seconds between learnings
# fdr = 0.01                     # share of named campaigns that may be wrong
# reference = "honest"           # a store of honest traffic to calibrate on; without one, read the
                                 # evidence before you believe a name

[limits]
# body_bytes = 33554432          # longest question
# read_s = 600                   # silence of the model server after which a question has failed

[admin]                          # http://127.0.0.1:8900/stillwatch/ with the token of {secrets}
# hosts = []                     # names, besides loopback's, that a browser may call it by
# peers = []                     # networks, besides loopback, that may reach it
"""
_OWN_KEYS: Final = f'keys = "{KEYS}"              # who has which key, as keyed hashes'
_PASSED_KEYS: Final = """\
# keys = "keys.jsonl"            # keys of your own; without them every key is an account of its own
forward_key = true               # the model server sees and checks the client's key"""


class FirstRun(NamedTuple):
    """What was written.

    Attributes:
        config: the configuration.
        secrets: the secrets, for `--secrets`.
        handed_out: keys in plain, to be handed out and then deleted; None without any.
    """

    config: Path
    secrets: Path
    handed_out: Path | None


def write_first_run(folder: Path, *, upstream: str, accounts: Sequence[str] = ()) -> FirstRun:
    """Write the files of a first run; nothing that is there already is touched.

    Args:
        folder: where to; made when absent.
        upstream: base URL of the model server, without `/v1`.
        accounts: accounts that get a key of the gateway's own; without any the clients' keys go on
            to the model server.

    Returns:
        What was written.

    Raises:
        InvalidInputError: the URL or an account's name breaks a rule.
        EnvironmentUnfitError: a file is there already, or the folder cannot be written.
    """
    parts = urlsplit(upstream)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.query
        or '"' in upstream
    ):
        reject("guard init", "--upstream", "an http(s) base URL", got=upstream)
    if parts.path.rstrip("/").endswith("/v1"):
        rule = "the base URL without /v1, which clients send themselves"
        reject("guard init", "--upstream", rule, got=upstream)
    for account in accounts:
        if not _NAME.fullmatch(account):
            reject("guard init", "--account", "a name without blanks or quotes", got=account)
    names = [CONFIG, SECRETS, *([KEYS, HANDED_OUT] if accounts else [])]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (folder / name).exists():
                message = f"{folder / name}: is there already"
                raise EnvironmentUnfitError(message, hint="name another folder, or move it away")
        hash_key = secrets.token_hex(32)
        _write(folder / SECRETS, _secrets_text(hash_key))
        keys = _OWN_KEYS if accounts else _PASSED_KEYS
        text = _TEMPLATE.format(upstream=upstream.rstrip("/"), keys=keys, secrets=SECRETS)
        _write(folder / CONFIG, text, mode=0o644)
        if accounts:
            _hand_out(folder, accounts, KeyedHash(bytes.fromhex(hash_key)))
    except OSError as error:
        message = f"{folder}: cannot be written: {error.strerror}"
        raise EnvironmentUnfitError(message) from error
    return FirstRun(folder / CONFIG, folder / SECRETS, folder / HANDED_OUT if accounts else None)


def _secrets_text(hash_key: str) -> str:
    return (
        "# Whoever has this file can read hashes back and open the admin. Keep the hash key: with\n"
        "# another one every account and address in the record gets another name.\n"
        f"{SECRET_VARIABLES['hash_key']}={hash_key}\n"
        f"{SECRET_VARIABLES['admin_token']}={secrets.token_urlsafe(32)}\n"
    )


def _hand_out(folder: Path, accounts: Sequence[str], hasher: KeyedHash) -> None:
    issued = [Issued(name, f"sk-{secrets.token_urlsafe(32)}") for name in dict.fromkeys(accounts)]
    write_key_table(folder / KEYS, issued, hasher)
    lines = "".join(f"{found.account} {found.api_key}\n" for found in issued)
    _write(folder / HANDED_OUT, lines)


def _write(path: Path, text: str, *, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="utf-8") as out:
        out.write(text)


def read_secrets(path: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Read a file of secrets, as `write_first_run` makes it; the environment goes before it.

    Args:
        path: lines NAME=VALUE; empty ones and those that begin with # are passed over.
        environ: the environment.

    Returns:
        The secrets' variables.

    Raises:
        ConfigError: the file cannot be read, others than its owner may read it, or a line is no
            secret.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            mode = os.fstat(lines.fileno()).st_mode
            text = lines.read(65_536)
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: the secrets cannot be read"
        raise ConfigError(message) from error
    if mode & 0o077:
        message = f"{path}: others than its owner may read or write it"
        raise ConfigError(message, hint=f"chmod 600 {path}")
    found = {}
    known = set(SECRET_VARIABLES.values())
    for number, line in enumerate(text.splitlines(), start=1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not equals or name not in known:
            message = f"{path}:{number}: must be NAME=VALUE with a known name"
            raise ConfigError(message, hint=f"known are {', '.join(sorted(known))}")
        found[name] = value
    return found | {name: value for name, value in environ.items() if name in known and value}
