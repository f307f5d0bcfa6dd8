"""`stillwatch trace bundle` and `trace verify`: evidence that a third party can compute again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillwatch.cli.trace_options import FILE, FOLDER, JSON, NEW

if TYPE_CHECKING:
    from stillwatch.trace.bundle.recompute import Recomputed
    from stillwatch.trace.bundle.verification import Verification

_BUNDLE = click.Path(path_type=Path, exists=True)


@click.group("bundle")
def bundle() -> None:
    """Make a bundle of evidence, have it time-stamped, keep parts of it back."""


@bundle.command("make")
@click.argument("bundle_file", metavar="BUNDLE.toml", type=FILE)
@click.option("--out", required=True, type=NEW, help="The bundle's folder; a new one.")
@JSON
def make(*, bundle_file: Path, out: Path, as_json: bool) -> None:
    """Collect files, run the steps without a result, and seal everything under one root.

    OUT/seal.json is what is time-stamped: `bundle request` writes the request.
    """
    from stillwatch.cli.printing import print_json
    from stillwatch.trace.bundle.case_file import read_bundle_file
    from stillwatch.trace.bundle.making import make_bundle

    made = make_bundle(out, read_bundle_file(bundle_file))
    if as_json:
        print_json({"root": made.root, "files": len(made.files), "folder": str(out)})
        return
    click.echo(f"{out}: {len(made.files):,} files, root {made.root}")


@bundle.command("request")
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=NEW, help="The request (RFC 3161), to be sent.")
def request(*, folder: Path, out: Path) -> None:
    """Write a request for a time-stamp over the bundle in FOLDER; nothing is sent."""
    from stillwatch.record.disk import replace_file
    from stillwatch.trace.bundle.making import request_seal

    replace_file(out, request_seal(folder))
    click.echo(f"{out}: send it to an authority as application/timestamp-query")


@bundle.command("stamp")
@click.argument("folder", type=FOLDER)
@click.argument("name")
@click.argument("response", type=FILE)
def stamp(*, folder: Path, name: str, response: Path) -> None:
    """Put an authority's answer into the bundle in FOLDER under NAME."""
    from stillwatch.trace.bundle.making import add_stamp

    found = add_stamp(folder, name, response.read_bytes())
    click.echo(f"stamped {found.when} by {found.authority}; `verify --roots` says if it is trusted")


@bundle.command("redact")
@click.argument("source", type=_BUNDLE)
@click.option("--out", required=True, type=NEW, help="The copy's folder; a new one.")
@click.option("--file", "files", multiple=True, help="Pattern of files to keep back; repeat it.")
@click.option(
    "--lines", "lines", multiple=True, metavar="FILE=PATTERN",
    help="Lines of a file that hold a regular expression; repeat it.",
)  # fmt: skip
@click.option("--why", default="withheld", show_default=True, help="The reason, which is shown.")
def redact(
    *, source: Path, out: Path, files: tuple[str, ...], lines: tuple[str, ...], why: str
) -> None:
    """Copy the bundle SOURCE without some files or lines; the root stays what it is."""
    from stillwatch.trace.bundle.redact import Redaction, lines_with, redact_bundle

    held: dict[str, list[int]] = {}
    for one in lines:
        name, sign, pattern = one.partition("=")
        if not sign:
            message = f"--lines must be FILE=PATTERN, got {one!r}"
            raise click.BadParameter(message)
        held.setdefault(name, []).extend(lines_with(source, name, pattern))
    made = redact_bundle(source, out, Redaction(dict.fromkeys(files, why), held, why))
    click.echo(f"{out}: the same root, {made.root}")


@bundle.command("pack")
@click.argument("folder", type=FOLDER)
@click.argument("archive", type=NEW)
def pack(*, folder: Path, archive: Path) -> None:
    """Write the bundle in FOLDER as one file in which no byte is free."""
    from stillwatch.trace.bundle.files import pack_files

    pack_files(folder, archive)
    click.echo(str(archive))


@click.command("verify")
@click.argument("bundle_path", metavar="BUNDLE", type=_BUNDLE)
@click.option("--roots", type=FILE, help="PEM file of the time-stamp authorities you trust.")
@click.option("--root", help="The root as it was noted elsewhere, hex.")
@click.option("--recompute", is_flag=True, help="Compute every number again, and compare.")
@click.option("--html", type=NEW, help="Write the verdict's page here; the bundle must hold one.")
@JSON
@click.pass_context
def verify(ctx: click.Context, /, *, bundle_path: Path, as_json: bool, **how: Any) -> None:
    """Check every byte of a BUNDLE, offline, and what was known when.

    Exit code 1: something was altered, or a number comes out otherwise.
    """
    from stillwatch.cli.printing import print_json
    from stillwatch.trace.bundle.making import recompute_bundle, verify_bundle
    from stillwatch.trace.verdicts.data import bundle_data

    found = verify_bundle(bundle_path, trusted=how["roots"] or (), root=how["root"])
    again: tuple[Recomputed, ...] = ()
    if how["recompute"] and found.is_sound:
        again = recompute_bundle(bundle_path)
    if how["html"] is not None and found.is_sound:
        _write_page(how["html"], bundle_path, found, again=again)
    if as_json:
        steps = [
            {"step": one.step, "outcome": one.outcome, "details": one.details} for one in again
        ]
        print_json({**bundle_data(found), "recomputed": steps})
    else:
        _tell(found, again)
    wrong = any(one.outcome in {"different", "failed"} for one in again)
    ctx.exit(0 if found.is_sound and not wrong else 1)


def _tell(found: Verification, again: tuple[Recomputed, ...]) -> None:
    for problem in found.problems:
        click.echo(str(problem))
    for note in found.notes:
        click.echo(f"note: {note}")
    for witness in found.witnesses:
        trusted = "trusted" if witness.stamp.is_trusted else "not trusted"
        click.echo(f"{witness.about}: stamped {witness.stamp.when}, {trusted}")
    for one in again:
        click.echo(f"{one.step} ({one.test}): {one.outcome}")
        for line in one.details:
            click.echo(f"  {line}")
    state = "sound" if found.is_sound else "NOT sound"
    click.echo(f"{state}: {found.variant}, {found.n_files:,} files hashed, root {found.root}")


def _write_page(
    page: Path, bundle_path: Path, found: Verification, *, again: tuple[Recomputed, ...]
) -> None:
    from stillwatch import __version__
    from stillwatch.record.disk import replace_file
    from stillwatch.report.verdict_page import render_verdict
    from stillwatch.trace.verdicts.data import verdict_data, verdict_of

    verdict, plan = verdict_of(bundle_path)
    run = {"version": __version__, "command": f"stillwatch trace verify {bundle_path.name}"}
    data = verdict_data(verdict, plan, verification=found, recomputed=again, run=run)
    replace_file(page, render_verdict(data).encode())
