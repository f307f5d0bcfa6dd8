"""`stillwatch distill`: a small model from a big one by asking only, and what the copy costs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from stillwatch.distill.run import Run

F = TypeVar("F", bound=Callable[..., Any])
_RUN = click.Path(path_type=Path, exists=True, dir_okay=False)


def budget_options(command: F) -> F:
    """Add the options that replace the file's budget.

    Args:
        command: what takes `budget_usd`, `budget_tokens` and `budget_questions`.

    Returns:
        The command with the options.
    """
    command = click.option("--budget-usd", type=str, help="Dollars at most, for all of the run.")(
        command
    )
    command = click.option("--budget-tokens", type=int, help="Tokens at most, in and out.")(command)
    return click.option("--budget-questions", type=int, help="Answers bought at most.")(command)


@click.group("distill")
def command() -> None:
    """Copy a teacher you may copy, by asking only, and say what the copy costs.

    \b
    stillwatch distill plan  RUN.toml     what will be asked, and what it may cost
    stillwatch distill ask   RUN.toml     ask; every attempt is recorded, nothing is bought twice
    stillwatch distill train RUN.toml     a student a budget and seed
    stillwatch distill score RUN.toml     teacher, students and the untouched student
    stillwatch distill curve RUN.toml     the copy curve, as data and as a page
    stillwatch distill run   RUN.toml     all of it; call it again and it goes on
    """  # noqa: D301 - click's own mark for lines that must not be wrapped


@command.command("plan")
@click.argument("run_file", metavar="RUN.toml", type=_RUN)
@budget_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(*, run_file: Path, as_json: bool, **budget: Any) -> None:
    """Say what asking will cost, and whether it is permitted, before anything is sent."""
    from stillwatch.cli.distill_words import plan_lines
    from stillwatch.cli.printing import print_json

    run = _load(run_file, budget)
    found = run.plan()
    if as_json:
        print_json(found)
        return
    for line in plan_lines(found, run):
        click.echo(line)


@command.command("ask")
@click.argument("run_file", metavar="RUN.toml", type=_RUN)
@budget_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def ask(ctx: click.Context, /, *, run_file: Path, as_json: bool, **budget: Any) -> None:
    """Ask what the record has no answer to yet, and choose the answers to learn from.

    Exit code 3: the budget is reached. 4: there is no permission. 5: some questions got no answer.
    Whatever was bought is kept; call it again to go on.
    """
    code = _ask(_load(run_file, budget), as_json=as_json)
    ctx.exit(code)


@command.command("train")
@click.argument("run_file", metavar="RUN.toml", type=_RUN)
@click.option("--processes", type=int, help="Students trained side by side; one a processor.")
def train(*, run_file: Path, processes: int | None) -> None:
    """Train a student for each budget and seed of the run that has none yet."""
    run = _load(run_file, {})
    run.permit()
    run.filter()
    _train(run, processes)


@command.command("score")
@click.argument("run_file", metavar="RUN.toml", type=_RUN)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def score(*, run_file: Path, as_json: bool) -> None:
    """Score teacher, untouched student and students on the same held-out items."""
    _score(_load(run_file, {}), as_json=as_json)


@command.command("curve")
@click.argument("source", metavar="RUN.toml|POINTS", type=_RUN)
@click.option("--seed", type=int, help="Of the band's resamples; the run's own by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the curves as JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the page here, too.")
def curve(*, source: Path, seed: int | None, as_json: bool, html: Path | None) -> None:
    """Fit the copy curve of each capability through scored students.

    SOURCE is a run file, or a file of scored students (JSON lines).

    \b
    stillwatch distill curve RUN.toml
    stillwatch distill curve siege-out/points.jsonl
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.cli.distill_words import curve_lines
    from stillwatch.cli.printing import print_json
    from stillwatch.distill.stages.run_curve import curves_of_points, write_page

    if source.suffix == ".toml":
        run = _load(source, {})
        found = run.curve(seed=seed)
    else:
        found = curves_of_points(source, seed=seed or 0)
    if html is not None:
        write_page(html, found, {"name": source.stem})
    if as_json:
        print_json(found.as_dict())
        return
    for line in curve_lines(found):
        click.echo(line)


@command.command("run")
@click.argument("run_file", metavar="RUN.toml", type=_RUN)
@budget_options
@click.option("--processes", type=int, help="Students trained side by side; one a processor.")
@click.pass_context
def run_(ctx: click.Context, /, *, run_file: Path, processes: int | None, **budget: Any) -> None:
    """Do all of it: ask, train, score, curve, and the files that say where it came from.

    A stage that is done is not done again. The held-out questions are asked first; when the budget
    is reached, students are trained on what was bought, and the exit code is 3.
    """
    import uvloop

    from stillwatch.cli.distill_words import curve_lines

    run = _load(run_file, budget)
    run.permit()
    uvloop.run(run.ask_held_out())
    code = _ask(run, as_json=False)
    if code not in {0, 3}:
        ctx.exit(code)
    _train(run, processes)
    _score(run, as_json=False)
    found = run.curve()
    for line in curve_lines(found):
        click.echo(line)
    click.echo(f"{run.folder.curve_page}")
    ctx.exit(code)


@command.command("export")
@click.argument("run_file", metavar="RUN.toml", type=_RUN)
@click.option(
    "--shape", required=True, help="trl, trl-prompt, openai, axolotl, llama-factory or parquet."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option("--questions", type=int, help="What the first so many questions gave.")
def export(*, run_file: Path, shape: str, out: Path, questions: int | None) -> None:
    """Write the kept answers in the shape that another trainer reads."""
    from stillwatch.distill.filtering.export import export as write

    run = _load(run_file, {})
    found = write(run.dataset(questions), shape, out, name=run.settings.name)
    click.echo(f"{out}: {found.n_examples:,} examples")
    for reason, n in found.left_out.items():
        click.echo(f"  left out, {reason.replace('_', ' ')}: {n:,}")


@command.command("verify")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def verify(ctx: click.Context, *, folder: Path, as_json: bool) -> None:
    """Check that a run's files are what its manifest says, from questions to curve."""
    from stillwatch.cli.printing import print_json
    from stillwatch.distill.origin.provenance import verify_run

    found = verify_run(folder)
    if as_json:
        print_json(found)
    else:
        for problem in found.problems:
            click.echo(problem)
        click.echo(f"{found.n_files:,} files checked, {len(found.problems)} problems")
    ctx.exit(1 if found.problems else 0)


def _load(path: Path, budget: dict[str, Any]) -> Run:
    from stillwatch.distill.run import Run

    return Run.load(
        path,
        usd=budget.get("budget_usd"),
        tokens=budget.get("budget_tokens"),
        questions=budget.get("budget_questions"),
    )


def _ask(run: Run, *, as_json: bool) -> int:
    import uvloop

    from stillwatch.cli.distill_words import ask_lines, ask_note, filter_lines
    from stillwatch.cli.printing import print_json
    from stillwatch.cli.progress import watching

    permission = run.permit()
    for hint in permission.hints:
        click.echo(f"note: {hint}", err=True)
    counts = run.questions()
    with watching(quiet=as_json) as watcher:
        watcher.stage("asking", counts.items)
        summary = uvloop.run(
            run.ask(lambda now: watcher.advance("asking", now.n_done, ask_note(now)))
        )
    kept = run.filter()
    if as_json:
        print_json({"ask": summary, "filter": kept.as_dict()})
    else:
        for line in [*ask_lines(summary), *filter_lines(kept)]:
            click.echo(line)
    return summary.exit_code


def _train(run: Run, processes: int | None) -> None:
    from stillwatch.cli.distill_words import student_line
    from stillwatch.cli.progress import watching

    n = len(run.budgets()) * len(run.settings.train.seeds)
    done = 0
    with watching() as watcher:
        watcher.stage("training", n)

        def told(record: Any, known: bool) -> None:
            nonlocal done
            done += 1
            if not known:
                watcher.say(student_line(record))
            watcher.advance("training", done)

        run.train(processes=processes or _processors(), on_done=told)


def _processors() -> int:
    return max(1, min(os.cpu_count() or 1, 8))


def _score(run: Run, *, as_json: bool) -> None:
    import uvloop

    from stillwatch.cli.distill_words import score_lines
    from stillwatch.cli.printing import print_json
    from stillwatch.cli.progress import watching

    with watching(quiet=as_json) as watcher:
        stages: set[str] = set()

        def told(name: str, done: int, total: int) -> None:
            if name not in stages:
                stages.add(name)
                watcher.stage(f"scoring {name}", total)
            watcher.advance(f"scoring {name}", done)

        report = uvloop.run(run.score(told))
    if as_json:
        print_json(report.as_dict())
        return
    for line in score_lines(report):
        click.echo(line)
