"""`stillwatch logs`: what logs hold, and their conversion to a store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillwatch.cli.logs_forget import forget, retain, rotate_key
from stillwatch.cli.logs_spend import spend
from stillwatch.cli.printing import print_json

if TYPE_CHECKING:
    from stillwatch.logs.describe import Description
    from stillwatch.logs.reader import ReadOptions
    from stillwatch.logs.reading import FileFound, ReadCounts, ReadRequest

_HASH_KEY_ENV = "STILLWATCH_HASH_KEY"
_MOST_FILES = 10
_BAR = 20  # characters of a full bar


@click.group("logs")
def command() -> None:
    """Read logs of any known format.

    \b
    stillwatch logs describe requests.jsonl.gz
    stillwatch logs convert 'logs/*.jsonl.zst' --hash-key hash.key --out store
    stillwatch detect store --out found
    """  # noqa: D301 - click's own mark for lines that must not be wrapped


for _more in (forget, retain, rotate_key, spend):
    command.add_command(_more)


def _reading(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that reading takes."""
    for option in reversed((
        click.argument("names", nargs=-1, required=True, metavar="LOGS..."),
        click.option(
            "--format", "format_name", default="auto", show_default=True, metavar="NAME",
            help="The logs' format; `logs formats` lists them.",
        ),
        click.option(
            "--accounts", metavar="FILE", help="Table of accounts: CSV, JSON lines or Parquet."
        ),
        click.option(
            "--bodies", type=click.Choice(["keep", "hash", "drop"]), default="keep",
            show_default=True, help="What becomes of the texts of questions and answers.",
        ),
        click.option(
            "--hash-key", type=click.Path(path_type=Path, dir_okay=False),
            help=f"File of the key for keys and addresses, made if absent; or {_HASH_KEY_ENV}.",
        ),
        click.option(
            "--utc-offset", default=0.0, show_default=True, metavar="HOURS",
            help="Zone of times that name none, hours east of UTC.",
        ),
        click.option("--strict", is_flag=True, help="Stop at the first unreadable record."),
        click.option(
            "--processes", type=click.IntRange(min=1),
            help="Processes to read with; by cores and size unless given.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )):  # fmt: skip
        function = option(function)
    return function


@command.command("describe")
@_reading
def describe(*, names: tuple[str, ...], accounts: str | None, as_json: bool, **how: Any) -> None:
    """Say what LOGS hold, what is missing in them, and what that costs detection.

    LOGS are files (plain, gzip or zstd), folders, patterns, stores, journals, or - for standard
    input.
    """
    from stillwatch.logs.convert import describe_logs

    found = describe_logs(_request(names, **how), accounts=accounts)
    if as_json:
        print_json(found)
        return
    _print_files(found.files)
    _print_description(found.description)
    if found.known_accounts is not None:
        click.echo(f"{found.known_accounts:,} of them by accounts that the table knows")
    _print_counts(found.counts)
    for fault in found.faults:
        click.echo(f"  {fault.file}:{fault.line}: {fault.reason}")


@command.command("convert")
@_reading
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
def convert(
    *, names: tuple[str, ...], accounts: str | None, as_json: bool, out: Path, **how: Any
) -> None:
    """Convert LOGS to the store OUT: Parquet, a folder a day.

    LOGS are files (plain, gzip or zstd), folders, patterns, stores, journals, or - for standard
    input. What cannot be read is listed in OUT/quarantine.jsonl with its file and line.
    """
    from stillwatch.logs.convert import QUARANTINE, convert_logs

    if how["hash_key"] is None and not _has_env_key():
        click.echo(
            "keys and addresses are hashed under a key that is thrown away: other conversions "
            "cannot be linked to this one (--hash-key keeps it)",
            err=True,
        )
    done = convert_logs(_request(names, **how), out, accounts=accounts)
    if as_json:
        print_json(done)
        return
    _print_files(done.files)
    _print_description(done.description)
    if done.known_accounts is not None:
        click.echo(f"{done.known_accounts:,} of them by accounts that the table knows")
    _print_counts(done.counts)
    if done.counts.quarantined:
        click.echo(f"  they are listed in {out / QUARANTINE}")
    click.echo(f"\n{out}: {done.n_files:,} new files in {len(done.days):,} days")


@command.command("formats")
def formats() -> None:
    """List the formats that logs are read in."""
    from stillwatch.logs.readers.registry import FORMATS, reader_of

    width = max(map(len, FORMATS))
    for name in FORMATS:
        click.echo(f"{name:<{width}}  {reader_of(name).title}")


def _request(
    names: tuple[str, ...],
    *,
    format_name: str,
    strict: bool,
    processes: int | None,
    **options: Any,
) -> ReadRequest:
    from stillwatch.logs.reading import ReadRequest

    return ReadRequest(
        names=names,
        options=read_options(**options),
        format=format_name,
        strict=strict,
        processes=processes,
    )


def read_options(
    *, bodies: Any = "keep", hash_key: Path | None = None, utc_offset: float = 0.0
) -> ReadOptions:
    """Choose how records are read, the hash key from a file, the environment, or drawn.

    Args:
        bodies: keep, hash or drop.
        hash_key: file of the key, made if absent.
        utc_offset: hours east of UTC of times that name no zone.

    Returns:
        The options.
    """
    from stillwatch.logs.reader import ReadOptions
    from stillwatch.record.privacy import KeyedHash

    if hash_key is not None:
        key = KeyedHash.from_file(hash_key, create=True)
    elif _has_env_key():
        key = KeyedHash.from_env(_HASH_KEY_ENV)
    else:
        key = KeyedHash.generate()
    return ReadOptions(key, bodies=bodies, timezone_offset_s=utc_offset * 3600)


def _has_env_key() -> bool:
    import os

    return bool(os.environ.get(_HASH_KEY_ENV))


def _print_files(files: list[FileFound]) -> None:
    for file in files[:_MOST_FILES]:
        click.echo(f"{file.name}: {file.format}, because it {file.ground}")
    if len(files) > _MOST_FILES:
        names = sorted({file.format for file in files})
        click.echo(f"and {len(files) - _MOST_FILES:,} more files; formats: {', '.join(names)}")


def _print_description(found: Description) -> None:
    click.echo(f"\n{found.exchanges:,} exchanges of {found.accounts:,} accounts")
    if not found.exchanges:
        return
    if found.first_at is not None and found.last_at is not None:
        click.echo(f"from {_when(found.first_at)} to {_when(found.last_at)} UTC")
    if found.untimed:
        click.echo(f"{found.untimed:,} of unknown time")
    click.echo(
        f"{found.output_tokens:,} output tokens; {found.refused:,} refused or failed; "
        f"{found.streamed:,} streamed"
    )
    models = ", ".join(f"{name or '(none)'} {n:,}" for name, n in list(found.models.items())[:5])
    click.echo(f"models: {models}\n")
    width = max(map(len, found.fields))
    for name, share in found.fields.items():
        bar = "#" * round(share * _BAR)
        click.echo(f"  {name:<{width}}  {share:6.1%}  {bar}")
    if found.costs:
        click.echo("\nwhat is missing, and what that costs:")
        for name, cost in found.costs.items():
            click.echo(f"  {name}: {cost}")
    click.echo("")


def _print_counts(counts: ReadCounts) -> None:
    click.echo(f"{counts.records:,} records read, {counts.quarantined:,} put aside")
    if counts.not_asked:
        click.echo(f"{counts.not_asked:,} of their parts ask no model:")
        for reason, n in sorted(counts.reasons.items(), key=lambda entry: -entry[1]):
            click.echo(f"  {n:,} {reason}")
    if counts.joined:
        click.echo(f"{counts.joined:,} parts were joined to the exchange that they belong to")
    if counts.repeated:
        click.echo(f"{counts.repeated:,} repeated deliveries left out")
    if counts.reused_ids:
        click.echo(f"{counts.reused_ids:,} ids stood for two exchanges; both are kept")
    if counts.steps_back:
        hours = counts.furthest_back_s / 3600
        click.echo(f"{counts.steps_back:,} steps back of the clock, the largest {hours:,.1f} h")
    if counts.forgotten_ids:
        click.echo(f"{counts.forgotten_ids:,} ids were too old to look for repeats of them")


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
