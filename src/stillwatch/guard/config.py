"""The gateway's configuration: one TOML file and, for secrets, the environment.

Everything has a default that is safe on first contact: loopback only, observe only, no header of
the client's trusted.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_type_hints
from urllib.parse import urlsplit

import msgspec

from stillwatch.errors import ConfigError, InvalidInputError, reject
from stillwatch.guard.admin.settings import AdminConfig
from stillwatch.guard.batch.settings import BatchConfig
from stillwatch.guard.connections.framing import ServerConfig
from stillwatch.guard.connections.tls import TlsConfig
from stillwatch.guard.inside.config import InsideConfig
from stillwatch.guard.recording.keeping import RecordConfig
from stillwatch.guard.routes.owners import ResponsesConfig
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.telling.telemetry_config import OtelConfig
from stillwatch.guard.wall.challenge import ChallengeConfig
from stillwatch.guard.wall.ladder import DAY_S, Hysteresis, Ladder, LadderRule, Rung
from stillwatch.record.privacy import KeyedHash

#: Environment variable of each secret; a secret never stands in the file.
SECRET_VARIABLES: Final = {
    "hash_key": "STILLWATCH_HASH_KEY",
    "admin_token": "STILLWATCH_ADMIN_TOKEN",
    "mark_secret": "STILLWATCH_MARK_SECRET",
    "mark_master_key": "STILLWATCH_MARK_MASTER_KEY",
    "upstream_key": "STILLWATCH_UPSTREAM_KEY",
    "otlp_headers": "OTEL_EXPORTER_OTLP_HEADERS",
    "challenge_secret": "STILLWATCH_CHALLENGE_SECRET",
    "redis_password": "STILLWATCH_REDIS_PASSWORD",
    "litellm_key": "STILLWATCH_LITELLM_KEY",
}
_DRAW: Final = "draw one: python -c 'import secrets; print(secrets.token_hex(32))'"


@dataclass(frozen=True)
class Secrets:
    """What must not stand in a file; never printed.

    Attributes:
        hash_key: keys the hashes of API keys and addresses in the record.
        admin_token: opens the admin routes and the metrics; None closes both.
        mark_secret: signs the orders to the model server to mark an answer; None never marks.
        mark_master_key: the campaigns' watermark keys are derived from it; None never marks.
        upstream_key: sent to the model server as bearer token; None sends none.
        otlp_headers: header lines for the telemetry collector, name=value with commas between.
        redis_password: of the Redis that gateways share; None sends none.
        challenge_secret: signs the tokens of verified accounts; None takes no tokens.
        litellm_key: opens the guardrail endpoint to a LiteLLM proxy; None closes it.
        former_hash_keys: hash keys from before rotations; key tables of theirs are still read.

    """

    hash_key: bytes = field(repr=False)
    admin_token: str | None = field(default=None, repr=False)
    mark_secret: bytes | None = field(default=None, repr=False)
    mark_master_key: bytes | None = field(default=None, repr=False)
    upstream_key: str | None = field(default=None, repr=False)
    otlp_headers: str | None = field(default=None, repr=False)
    redis_password: str | None = field(default=None, repr=False)
    challenge_secret: bytes | None = field(default=None, repr=False)
    litellm_key: str | None = field(default=None, repr=False)
    former_hash_keys: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def hasher(self) -> KeyedHash:
        """The keyed hash of everything that is recorded."""
        return KeyedHash(self.hash_key, previous=self.former_hash_keys)

    def __post_init__(self) -> None:
        for name in ("hash_key", "mark_secret", "mark_master_key", "challenge_secret"):
            value = getattr(self, name)
            if value is not None and len(value) < 16:
                got = f"{len(value)} bytes"
                reject("guard", SECRET_VARIABLES[name], "at least 16 bytes long", got=got)
        if (self.mark_secret is None) != (self.mark_master_key is None):
            both = f"{SECRET_VARIABLES['mark_secret']} and {SECRET_VARIABLES['mark_master_key']}"
            reject("guard", both, "set together or not at all", got="one of them")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Secrets:
        """Read the secrets from the environment.

        Args:
            environ: the environment.

        Returns:
            The secrets; absent or empty variables are None.

        Raises:
            ConfigError: the hash key is missing or not hex digits.
        """
        found = {name: environ.get(variable) for name, variable in SECRET_VARIABLES.items()}
        hash_key, mark_secret, master = (
            found["hash_key"], found["mark_secret"], found["mark_master_key"]
        )  # fmt: skip
        if not hash_key:
            message = f"environment: {SECRET_VARIABLES['hash_key']} must be set"
            raise ConfigError(message, hint=f"{_DRAW}; keep it, or all hashes change")
        newest, *former = map(_from_hex, hash_key.split(","))
        return cls(
            hash_key=newest,
            former_hash_keys=tuple(former),
            admin_token=found["admin_token"] or None,
            mark_secret=mark_secret.encode() if mark_secret else None,
            mark_master_key=master.encode() if master else None,
            upstream_key=found["upstream_key"] or None,
            otlp_headers=found["otlp_headers"] or None,
            redis_password=found["redis_password"] or None,
            challenge_secret=(found["challenge_secret"] or "").encode() or None,
            litellm_key=found["litellm_key"] or None,
        )


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        variable = SECRET_VARIABLES["hash_key"]
        message = f"environment: {variable} must be hex digits, got {len(text)} characters"
        raise ConfigError(message, hint=_DRAW) from None


@dataclass(frozen=True)
class LearnerConfig:
    """The second process.

    Attributes:
        enabled: False never learns; verdicts of others still hold.
        every_s: real seconds between learnings; 0 learns only when an admin asks (simulations).
        reference: a store of honest traffic that findings are calibrated on, or None.
        fdr: share of named campaigns that may be wrong (0..1).
        verdict_ttl_s: seconds that a verdict outlives its last finding.
        window_days: days that are looked back on; older profiles go.
        deadline_s: seconds after which a learner that has not answered is killed and replaced.
        store: where the journal is compacted to, or None; a learner without profiles of its own
            reads it for what the journal no longer holds.
    """

    enabled: bool = True
    every_s: float = 300.0
    reference: Path | None = None
    fdr: float = 0.01
    verdict_ttl_s: float = 7 * DAY_S
    window_days: int = 90
    deadline_s: float = 900.0
    store: Path | None = None

    def __post_init__(self) -> None:
        if self.every_s < 0:
            reject("guard.learner", "every_s", "at least 0", got=self.every_s)
        if not 0 < self.fdr < 1:
            reject("guard.learner", "fdr", "between 0 and 1", got=self.fdr)
        if self.verdict_ttl_s <= 0:
            reject("guard.learner", "verdict_ttl_s", "above 0", got=self.verdict_ttl_s)
        if self.window_days < 1:
            reject("guard.learner", "window_days", "at least 1", got=self.window_days)
        if self.deadline_s <= 0:
            reject("guard.learner", "deadline_s", "above 0", got=self.deadline_s)


@dataclass(frozen=True)
class Limits:
    """Bounds on what one client or one stalled server can take up.

    Attributes:
        body_bytes: longest question accepted (bytes).
        record_bytes: longest answer kept for the record (bytes); all of it is still sent.
        record_queue_bytes: exchanges that may wait in memory for the disk (bytes); beyond three
            quarters of it texts are dropped, beyond all of it rows.
        connect_s: seconds to reach the model server.
        read_s: seconds of silence of the model server after which the question has failed.
        upstream_idle_s: seconds that an idle connection to the model server is kept; below the
            server's own limit, or questions run into closing connections.
        reload_s: real seconds between looks at the verdict table's generation.
    """

    body_bytes: int = 32 * 1024 * 1024
    record_bytes: int = 4 * 1024 * 1024
    record_queue_bytes: int = 64 * 1024 * 1024
    connect_s: float = 5.0
    read_s: float = 600.0
    upstream_idle_s: float = 4.0
    reload_s: float = 2.0


@dataclass(frozen=True)
class GuardConfig:
    """Everything that a gateway is told.

    Attributes:
        upstream: base URL of the model server, without `/v1`; "" where another server asks it.
        state: folder of the journal, the verdict table and the audit log; made when absent.
        secrets: from the environment.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        keys: key table, or None to accept every key (the account is then the key's hash).
        policy: file of rules, or None for no policy.
        accounts: accounts table, which the policy's facts come from, or None.
        forward_key: send the client's own key on to the model server.
        trusted_hops: proxies of ours in front (count) whose `x-forwarded-for` is believed.
        simulation: take time, order and request ids from the questions (siege only).
        ladder: what is done to campaigns.
        hysteresis: how surely a campaign must be found, and missed.
        challenge: where challenged people are sent.
        learner: the second process.
        limits: bounds.
        record: what is kept of an exchange.
        responses: whose stored answers may be built on.
        shared: what several gateways have in common.
        admin: from where the admin may be reached.
        otel: where telemetry goes.
        batches: bounds on files and batches.
        inside: the wall inside another gateway.
    """

    upstream: str
    state: Path
    secrets: Secrets
    host: str = "127.0.0.1"
    port: int = 8900
    keys: Path | None = None
    policy: Path | None = None
    accounts: Path | None = None
    forward_key: bool = False
    trusted_hops: int = 0
    simulation: bool = False
    ladder: Ladder = field(default_factory=Ladder)
    hysteresis: Hysteresis = field(default_factory=Hysteresis)
    challenge: ChallengeConfig = field(default_factory=ChallengeConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    limits: Limits = field(default_factory=Limits)
    record: RecordConfig = field(default_factory=RecordConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    responses: ResponsesConfig = field(default_factory=ResponsesConfig)
    shared: SharedConfig = field(default_factory=SharedConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    otel: OtelConfig = field(default_factory=OtelConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    inside: InsideConfig = field(default_factory=InsideConfig)

    def __post_init__(self) -> None:
        parts = urlsplit(self.upstream)
        is_url = parts.scheme in {"http", "https"} and parts.hostname and not parts.query
        if self.upstream and not is_url:
            reject("guard", "upstream", "an http(s) base URL", got=self.upstream)
        if not 0 <= self.port <= 65_535:
            reject("guard", "port", "0 to 65535", got=self.port)
        if self.trusted_hops < 0:
            reject("guard", "trusted_hops", "at least 0", got=self.trusted_hops)
        if self.simulation and self.shared.url is not None:
            reject("guard", "shared.url", "absent in a simulation", got="one")
        if "challenge" in self.ladder.actions and not self.challenge.url:
            reject("guard", "challenge.url", "given for a challenge rung", got="")

    @property
    def journal_path(self) -> Path:
        """Folder of the journal."""
        return self.state / "journal"

    @property
    def profiles_path(self) -> Path:
        """What the learner knows, by day."""
        return self.state / "profiles"

    @property
    def verdict_path(self) -> Path:
        """The verdict table."""
        return self.state / "verdicts.sqlite"

    @property
    def owners_path(self) -> Path:
        """Whose stored answers are."""
        return self.state / "owners.sqlite"

    @property
    def audit_path(self) -> Path:
        """The audit log."""
        return self.state / "audit.jsonl"


def load_config(path: Path, *, secrets: Secrets) -> GuardConfig:
    """Read a configuration file; paths in it are relative to its folder.

    Args:
        path: the TOML file.
        secrets: as read from the environment.

    Returns:
        The configuration, every value checked.

    Raises:
        ConfigError: the file cannot be read, has an unknown key, or a value breaks a rule.
    """
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        message = f"{path}: the configuration cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: not TOML: {error}"
        raise ConfigError(message) from error
    _known_keys(document, _TABLES[""], f"{path}")
    if "inside" in document:  # there it is another server that asks the model
        document.setdefault("upstream", "")
    for required in ("upstream", "state"):
        if required not in document:
            message = f"{path}: {required} must be given"
            raise ConfigError(message)
    types = get_type_hints(GuardConfig)
    values: dict[str, Any] = {"secrets": secrets}
    for name, value in document.items():
        try:
            values[name] = msgspec.convert(
                value, types[name], dec_hook=lambda _, text: path.parent / str(text)
            )
        except msgspec.ValidationError as error:
            message = f"{path}: {name}: {error}"
            raise ConfigError(message) from error
    try:
        return GuardConfig(**values)
    except InvalidInputError as error:
        message = f"{path}: {error}"
        raise ConfigError(message, hint=error.hint) from error


def _known_keys(table: Mapping[str, Any], kind: type[Any], where: str) -> None:
    known = {f.name for f in fields(kind)} - {"secrets"}
    for key, value in table.items():
        if key not in known:
            message = f"{where}: unknown key '{key}'; known are {', '.join(sorted(known))}"
            raise ConfigError(message)
        rows = value if isinstance(value, list) else [value]
        for row in rows:
            if isinstance(row, dict) and key in _TABLES:
                _known_keys(row, _TABLES[key], f"{where} [{key}]")


#: The dataclass behind each table of the file, by its key; "" is the file itself.
_TABLES: Final[dict[str, type[Any]]] = {
    "": GuardConfig,
    "ladder": Ladder,
    "rules": LadderRule,
    "rungs": Rung,
    "hysteresis": Hysteresis,
    "challenge": ChallengeConfig,
    "learner": LearnerConfig,
    "limits": Limits,
    "record": RecordConfig,
    "server": ServerConfig,
    "tls": TlsConfig,
    "responses": ResponsesConfig,
    "shared": SharedConfig,
    "admin": AdminConfig,
    "otel": OtelConfig,
    "batches": BatchConfig,
    "inside": InsideConfig,
}
