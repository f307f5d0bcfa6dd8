"""A whole run: logs in, findings out, with whatever the log lacks said beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.selfcheck import check_calibration
from stillwatch.detect.engines.local import fold_logs
from stillwatch.detect.engines.parquet import split_sources
from stillwatch.detect.evidence.limits import (
    has_questions,
    missing_fields,
    untested,
    without_questions,
)
from stillwatch.detect.evidence.outsiders import lone_accounts
from stillwatch.detect.evidence.worth import Price
from stillwatch.detect.facts import facts_of
from stillwatch.detect.findings import Findings
from stillwatch.detect.members.listing import Listing
from stillwatch.detect.members.reread import Read, Reader, enrich, read_exchanges, read_files
from stillwatch.detect.profiles.keep import (
    Marks,
    is_kept,
    load_profiles,
    merge_kept,
    read_head,
    save_profiles,
    updating,
)
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.detect.search import Vetted, search, vet
from stillwatch.errors import reject
from stillwatch.logs.accounts import AccountTable, load_accounts
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.logs.source import find_sources
from stillwatch.logs.unit import Fault


@dataclass(frozen=True)
class DetectRequest:
    """What to detect in, and how.

    Attributes:
        logs: files, folders, patterns, stores, journals, or "-"; may be empty with kept profiles.
        options: how records are read.
        references: logs of honest traffic; empty takes the bulk of the logs.
        format: a format's name, or auto.
        accounts: table of accounts, or None.
        config: how campaigns are found.
        engine: local, or spark.
        processes: how many to share the work over.
        profiles: folder of kept profiles that the logs are added to, or None.
        embedder: folder of a sentence-transformers model that gives the features of questions, or
            None for hashed ones.
        prices: list prices given by the user.
    """

    logs: tuple[str, ...]
    options: ReadOptions
    references: tuple[str, ...] = ()
    format: str = "auto"
    accounts: str | None = None
    config: DetectConfig = field(default_factory=DetectConfig)
    engine: Literal["local", "spark"] = "local"
    processes: int = 2
    profiles: Path | None = None
    embedder: Path | None = None
    prices: tuple[Price, ...] = ()


class Ran(NamedTuple):
    """A run and what it rests on.

    Attributes:
        findings: with the words of the evidence filled in.
        profiles: of the log, kept ones included.
        reference: of the honest traffic without its webs, None when the log itself stood in.
        table: what is known of accounts, or None.
        unread: records that could not be read (count).
        read: finds exchanges of the log again by their keys.
    """

    findings: Findings
    profiles: Profiles
    reference: Profiles | None
    table: AccountTable | None
    unread: int
    read: Reader


def run_detect(
    request: DetectRequest,
    *,
    out: Path | None = None,
    on_fault: Callable[[Fault], None] = lambda _: None,
) -> Ran:
    """Read logs, find campaigns, and read again what their evidence quotes.

    Args:
        request: what, and how.
        out: folder for `exchanges.parquet`, every exchange of every campaign; None writes none.
        on_fault: told of each record that cannot be read.

    Returns:
        Findings, profiles and counts.

    Raises:
        InvalidInputError: nothing to read, no known format, or profiles that do not fit.
        EnvironmentUnfitError: the disk is full, or a process was killed.
        RecordError: a store or kept profiles are damaged.
    """
    unread = 0

    def tell(fault: Fault) -> None:
        nonlocal unread
        unread += 1
        on_fault(fault)

    table = None
    if request.accounts is not None:
        table = load_accounts(request.accounts, request.options, on_fault=tell)
    with tempfile.TemporaryDirectory(prefix="stillwatch-detect-") as name, _held(request):
        tape = Path(name) / "tape"
        profiles, is_all = _profiles(request, tape, tell)
        reference = _vetted(request, tell)
        listing = None
        if is_all and out is not None:
            listing = Listing(tape, out / "exchanges.parquet")
        findings = search(profiles, reference, request.config, table=table, listing=listing)
        if request.profiles is not None and request.logs:
            marks = _marks(request)
            save_profiles(profiles, request.profiles, config=request.config.fold, marks=marks)
    findings = _with_owners(findings, profiles, table, config=request.config)
    if reference is not None and out is not None:
        findings = _checked(findings, profiles, reference.profiles, config=request.config)
    read = _reader(request)
    findings = enrich(findings, profiles, read, prices=request.prices)
    honest = reference.profiles if reference is not None else None
    return Ran(findings, profiles, honest, table, unread, read)


def _vetted(request: DetectRequest, tell: Callable[[Fault], None]) -> Vetted | None:
    if not request.references:
        return None
    return vet(_fold(request, request.references, tell, tape=None), request.config)


def _with_owners(
    findings: Findings, profiles: Profiles, table: AccountTable | None, *, config: DetectConfig
) -> Findings:
    """Add what only a table of accounts can tell: names that share one owner."""
    if table is None:
        return findings
    from stillwatch.detect.confirmation.owners import (
        list_owners,  # numba behind it takes its time to start
    )

    facts = facts_of(profiles.accounts, table)
    owners = list_owners(profiles, facts, findings, config=config)
    return msgspec.structs.replace(findings, owners=owners)


def _checked(
    findings: Findings, profiles: Profiles, reference: Profiles, *, config: DetectConfig
) -> Findings:
    """Add what only a reference can tell: lone accounts, and whether p-values are honest."""
    lone = findings.lone
    if not lone and has_questions(profiles):
        lone = lone_accounts(profiles, reference, findings, config=config)
    calibration = check_calibration(reference, config)
    return msgspec.structs.replace(findings, calibration=calibration, lone=lone)


def report_of(ran: Ran, *, command: str = "", version: str = "") -> dict[str, Any]:
    """Put a run into the dictionary that its page is rendered from.

    Args:
        ran: the run.
        command: how it was started.
        version: of this package.

    Returns:
        What campaigns.json holds, and under `run` how it was made.
    """
    document: dict[str, Any] = msgspec.to_builtins(ran.findings)
    document.pop("accounts", None)
    first, last = ran.profiles.totals.first_seen, ran.profiles.totals.last_seen
    has_accounts = ran.table is not None
    document["run"] = {
        "command": command,
        "version": version,
        "first_seen": _finite(first.min(initial=np.inf)),
        "last_seen": _finite(last.max(initial=-np.inf)),
        "not_tested": list(untested(ran.findings, ran.profiles, has_accounts=has_accounts)),
        "no_questions": without_questions(ran.findings, ran.profiles, has_accounts=has_accounts),
        "missing": missing_fields(ran.profiles),
    }
    return document


def _profiles(
    request: DetectRequest, tape: Path, tell: Callable[[Fault], None]
) -> tuple[Profiles, bool]:
    """Fold the logs, add what is kept, and say whether the tape holds everything."""
    config, folder = request.config.fold, request.profiles
    if not request.logs:
        if folder is None:
            reject("detect", "LOGS", "given, or --profiles of an earlier run", got="neither")
        return load_profiles(folder, config=config, marks=_marks(request)), False
    fresh = _fold(request, request.logs, tell, tape=tape)
    if folder is None or not is_kept(folder):
        return fresh, True
    return merge_kept(fresh, folder, config=config, marks=_marks(request)), False


def _marks(request: DetectRequest) -> Marks:
    """Say what later runs must have alike; the hash key counts where this run hashes networks."""
    split = split_sources(find_sources(request.logs)) if request.logs else None
    if split is not None and split.others:
        hash_key = request.options.keyed_hash.hash("profiles", "hash key")
    elif request.profiles is not None and is_kept(request.profiles):
        hash_key = read_head(request.profiles).marks.hash_key
    else:
        hash_key = ""
    return Marks(hash_key=hash_key, embedder=request.embedder.name if request.embedder else "")


def _fold(
    request: DetectRequest,
    names: tuple[str, ...],
    tell: Callable[[Fault], None],
    *,
    tape: Path | None,
) -> Profiles:
    config, embedder = request.config.fold, None
    if request.embedder is not None:
        from stillwatch.model.embedder import SentenceEmbedder

        embedder = SentenceEmbedder.load(request.embedder)
    if request.engine == "spark":
        from stillwatch.detect.engines.spark import fold_spark

        return fold_spark(list(names), config, tape=tape, embedder=embedder)
    split = split_sources(find_sources(names))
    others = tuple(source.name for source in split.others)
    streams = Reading(_read_request(request, others), on_fault=tell).batches()
    return fold_logs(
        split.paths,
        config,
        streams=streams if others else (),
        processes=request.processes,
        tape=tape,
        embedder=embedder,
    )


def _read_request(request: DetectRequest, names: tuple[str, ...]) -> ReadRequest:
    processes = 1 if request.processes == 1 else None
    return ReadRequest(names, request.options, format=request.format, processes=processes)


def _reader(request: DetectRequest) -> Reader:
    def read(wanted: Collection[str]) -> dict[str, Read]:
        split = split_sources(find_sources(request.logs))
        found = read_files(split.paths, wanted)
        others = tuple(source.name for source in split.others)
        left = set(wanted) - set(found)
        if left and others and "-" not in others:
            again = Reading(_read_request(request, others))
            found |= read_exchanges(again.batches(), left)
        return found

    return read


@contextmanager
def _held(request: DetectRequest) -> Iterator[None]:
    if request.profiles is None or not request.logs:
        yield
        return
    with updating(request.profiles):
        yield


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
