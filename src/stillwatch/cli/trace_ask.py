"""`stillwatch trace ask`: put pre-registered questions to a suspect.

The asker is the one of `distill`: every attempt is journalled, nothing is bought twice, a budget
holds. What differs is why: a suspect is asked to be tested, not to be learned from, so there is a
stated purpose in the place of a permission.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("ask")
@click.argument(
    "suspect_file",
    metavar="SUSPECT.toml",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def ask(ctx: click.Context, /, *, suspect_file: Path, as_json: bool) -> None:
    """Ask a suspect what its record has no answer to yet.

    The answers lie in OUT/outputs.jsonl, every attempt in OUT/record/journal. Exit code 3: the
    budget is reached. 5: some questions got no answer. Whatever was bought is kept; call it again
    to go on.
    """
    import uvloop

    from stillwatch.cli.distill_words import ask_lines, ask_note
    from stillwatch.cli.printing import print_json
    from stillwatch.cli.progress import watching
    from stillwatch.cli.trace_asking import Asking

    asking = Asking.load(suspect_file)
    if asking.plan is None:
        click.echo("not pre-registered: a lead for a plan, no evidence under one", err=True)
    with watching(quiet=as_json) as watcher:
        watcher.stage("asking", len(asking.prompts) * asking.settings.prompts.samples)
        summary = uvloop.run(
            asking.ask(lambda now: watcher.advance("asking", now.n_done, ask_note(now)))
        )
    n_outputs = asking.write(summary)
    if as_json:
        print_json({"ask": summary, "outputs": n_outputs, "folder": str(asking.folder)})
    else:
        for line in ask_lines(summary):
            click.echo(line)
        click.echo(f"{asking.folder}: {n_outputs:,} outputs")
    ctx.exit(summary.exit_code)
