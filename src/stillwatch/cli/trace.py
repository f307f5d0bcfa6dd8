"""`stillwatch trace`: test whether a suspect model was trained on your answers."""

from __future__ import annotations

import click

from stillwatch.cli.trace_ask import ask
from stillwatch.cli.trace_bundle import bundle, verify
from stillwatch.cli.trace_canary import canary, withheld
from stillwatch.cli.trace_marks import radioactivity, watermark
from stillwatch.cli.trace_similar import equality, errors, identity, lineage
from stillwatch.cli.trace_verdict import plan, verdict


@click.group("trace")
def command() -> None:
    """Evidence that a suspect model was trained on your answers.

    \b
    stillwatch trace plan PLAN.toml --out plan.json   fix everything before the first question
    stillwatch trace ask SUSPECT.toml                 ask a suspect the planned questions
    stillwatch trace radioactivity OUTPUTS ...        does it know a key, a canary, a split?
    stillwatch trace verdict plan.json ...            all evidence, one answer
    stillwatch trace bundle make BUNDLE.toml ...      what a third party can compute again
    """  # noqa: D301 - click's own mark for lines that must not be wrapped


for _part in (
    plan, ask, watermark, radioactivity, canary, withheld, lineage, errors, identity, equality,
    verdict, bundle, verify,
):  # fmt: skip
    command.add_command(_part)
