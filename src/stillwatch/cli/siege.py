"""`stillwatch siege`: the contest on loopback, its verification, and the teachers' retraining."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from stillwatch.cli.printing import print_json
from stillwatch.cli.progress import watching


@click.group("siege", invoke_without_command=True)
@click.option("--quick", is_flag=True, help="A smaller world and fewer students.")
@click.option("--tiny", is_flag=True, hidden=True, help="Seconds long, for tests.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the whole run.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the report, siege-out by default; an earlier run in it is replaced.",
)
@click.option("--retrain", is_flag=True, help="Train the house teachers again instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(  # noqa: PLR0913 - one parameter an option
    ctx: click.Context,
    *,
    quick: bool,
    tiny: bool,
    seed: int,
    out: Path | None,
    retrain: bool,
    as_json: bool,
) -> None:
    """Let honest users and a simulated campaign use a model of yours on loopback, and report.

    A student is trained on what the campaign got, with the wall off and on; the report says what
    the copy cost, when it was seen, what the wall did to it, what honest users paid, and whether
    the copy can be proved. OUT/moat.html is the page, OUT/moat.json the numbers.

    \b
    stillwatch siege                 about three minutes on two cores
    stillwatch siege --quick         a smaller one
    stillwatch siege verify OUT      compute the report's numbers again from its files
    stillwatch siege --retrain       train the house teachers again (minutes)
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    if ctx.invoked_subcommand is not None:
        return
    if retrain:
        _retrain(out or Path("teachers-out"))
        return
    out = out or Path("siege-out")
    from stillwatch.report.moat_text import moat_summary
    from stillwatch.siege.loop import run_siege
    from stillwatch.siege.settings import SiegeSettings

    settings = SiegeSettings.tiny(seed=seed) if tiny else SiegeSettings.of(seed=seed, quick=quick)
    line = " ".join(["stillwatch", *sys.argv[1:]])
    with watching(quiet=as_json) as watcher:
        report = run_siege(settings, out, command=line, watcher=watcher)
    if as_json:
        print_json(report)
        return
    _print(moat_summary(report))
    click.echo(f"\nThe page: {out / 'moat.html'}\nThe numbers: {out / 'moat.json'}")


@command.command("verify")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def verify(*, folder: Path, as_json: bool) -> None:
    """Check a run's FOLDER: its files, its campaigns, and every number of its report.

    Exits 1 when something differs. Students are not trained again; their answers are judged again.
    """
    from stillwatch.siege.verify import verify_run

    checks = verify_run(folder)
    holds = not any(check.differences for check in checks)
    if as_json:
        rows: list[dict[str, Any]] = [check._asdict() for check in checks]
        print_json({"holds": holds, "checks": rows})
    else:
        for check in checks:
            click.echo(f"{'differs' if check.differences else 'holds  '}  {check.name}")
            for line in check.differences[:20]:
                click.echo(f"         {line}")
    sys.exit(0 if holds else 1)


def _retrain(out: Path) -> None:
    from stillwatch.siege.teachers import TEACHERS, file_hashes, house_teacher, retrain

    for name in TEACHERS:
        folder = out / name
        with watching() as watcher:
            watcher.stage(f"training {name}")
            retrain(name, folder)
        same = file_hashes(folder) == file_hashes(house_teacher(name))
        word = "byte for byte the shipped one" if same else "not byte for byte the shipped one"
        click.echo(f"{name}: {folder}, {word}")


def _print(what: object) -> None:
    from rich.console import Console

    Console().print(what)
