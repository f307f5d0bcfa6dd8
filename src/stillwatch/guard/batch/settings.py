"""How the gateway treats files and batches: the table `[batches]` of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from stillwatch.errors import reject

Unknown = Literal["pass", "refuse"]
_DAY_S = 86_400.0


@dataclass(frozen=True)
class BatchConfig:
    """Bounds on what batches take up, and what is done with ids that nobody is known to have.

    Attributes:
        file_bytes: longest input of one batch that is read (bytes); a longer file is passed on,
            but a batch made of it cannot be read. The vendors allow 200 and 256 MiB.
        disk_bytes: of all inputs kept in the state folder (bytes); none is kept beyond it.
        row_bytes: longest row, asked or answered, that is read (bytes); longer ones still pass.
        keep_s: seconds after which what was never fetched is recorded as asked, and what is known
            of a batch is forgotten. Both vendors keep results for 29 or 30 days.
        sweep_s: seconds between looks for such batches.
        unknown: pass or refuse (404) ids that did not come through this gateway.
        public_url: by which clients reach this gateway; None takes scheme and host of each request.
    """

    file_bytes: int = 300 * 2**20
    disk_bytes: int = 8 * 2**30
    row_bytes: int = 8 * 2**20
    keep_s: float = 31 * _DAY_S
    sweep_s: float = 600.0
    unknown: Unknown = "pass"
    public_url: str | None = None

    def __post_init__(self) -> None:
        for name in ("file_bytes", "disk_bytes", "row_bytes", "keep_s", "sweep_s"):
            if getattr(self, name) <= 0:
                reject("guard.batches", name, "above 0", got=getattr(self, name))
        if self.unknown not in get_args(Unknown):
            rule = f"one of {', '.join(get_args(Unknown))}"
            reject("guard.batches", "unknown", rule, got=self.unknown)
        parts = urlsplit(self.public_url or "http://unset")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            rule = "an http(s) address without a path"
            reject("guard.batches", "public_url", rule, got=self.public_url)
