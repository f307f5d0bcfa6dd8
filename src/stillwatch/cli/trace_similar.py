"""`stillwatch trace lineage`, `errors`, `identity` and `equality`: likeness, which proves nothing.

Each is a step of `trace.bundle.steps`: a bundle computes the same number from the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stillwatch.cli.trace_options import (
    FILE,
    OUTPUTS,
    decoded,
    finding_options,
    named,
    roles,
)

_REFERENCES = click.option(
    "--reference",
    "references",
    multiple=True,
    callback=named,
    metavar="NAME=FILE",
    help="Outputs of a model that is independent of yours; repeat it, 19 or more tell something.",
)
_SEED = click.option("--seed", default=0, show_default=True, help="Of the resamples.")


@click.command("lineage")
@click.option(
    "--suspect", required=True, nargs=1, metavar="NAME=FILE", help="The suspect's outputs.",
    callback=lambda c, p, value: named(c, p, [value])[0],
)  # fmt: skip
@click.option(
    "--candidate", "candidates", multiple=True, required=True, callback=named,
    metavar="NAME=FILE", help="A possible teacher's outputs, yours first; repeat it.",
)  # fmt: skip
@_REFERENCES
@click.option("--cards", type=FILE, help="JSON: name -> family, base, released, teachers.")
@click.option("--resamples", default=1000, show_default=True, help="Of the questions.")
@_SEED
@finding_options
def lineage(*, as_json: bool, out: Path | None, **how: Any) -> None:
    """Rank possible teachers of a suspect by likeness of answers to the same questions.

    The finding is about the first candidate: of R references, k are at least as close to it.
    """
    candidates, references = how["candidates"], how["references"]
    everyone = [how["suspect"], *candidates, *references]
    settings = {
        "suspect": how["suspect"][0],
        "candidate": candidates[0][0],
        "candidates": list(dict.fromkeys(name for name, _ in candidates)),
        "references": list(dict.fromkeys(name for name, _ in references)),
        "seed": how["seed"],
        "draws": how["resamples"],
    }
    if how["cards"] is not None:
        settings["cards"] = decoded(how["cards"], dict[str, dict[str, Any]])
    _run("lineage", roles("outputs", everyone), settings, as_json=as_json, out=out)


@click.command("errors")
@click.argument("sheet", type=FILE)
@click.option("--mine", required=True, help="Your model's name in the sheet.")
@click.option("--suspect", required=True, help="The suspect's name in the sheet.")
@click.option(
    "--reference", "references", multiple=True,
    help="An independent model's name in the sheet; repeat it. All others unless told.",
)  # fmt: skip
@click.option("--all-items", is_flag=True, help="Count right answers, too.")
@finding_options
def errors(*, sheet: Path, as_json: bool, out: Path | None, **how: Any) -> None:
    """Ask whether two models make the same mistakes more often than difficulty explains.

    SHEET is a JSON object of models, choices (a row a model, -1 for none), right and n_options.
    """
    pair = (how["mine"], how["suspect"])
    everyone = decoded(sheet, dict[str, Any]).get("models", ())
    settings = {
        "mine": how["mine"],
        "suspect": how["suspect"],
        "references": list(how["references"]) or [name for name in everyone if name not in pair],
        "wrong_only": not how["all_items"],
    }
    _run("shared-errors", {"sheet": sheet}, settings, as_json=as_json, out=out)


@click.command("identity")
@click.argument("outputs", type=OUTPUTS)
@click.option("--model", "models", multiple=True, required=True, help="A name of your model.")
@click.option("--maker", "makers", multiple=True, help="A name of whoever makes it; repeat it.")
@_REFERENCES
@finding_options
def identity(*, outputs: Path, as_json: bool, out: Path | None, **how: Any) -> None:
    """Count how often a suspect's OUTPUTS claim to be your model, beside references."""
    inputs = {"suspect": outputs, **roles("reference", how["references"])}
    settings = {"models": list(how["models"]), "makers": list(how["makers"])}
    _run("identity", inputs, settings, as_json=as_json, out=out)


@click.command("equality")
@click.argument("mine", type=OUTPUTS)
@click.argument("endpoint", type=OUTPUTS)
@click.option("--name", default="endpoint", show_default=True, help="Names the samples.")
@_REFERENCES
@click.option("--exchanges", default=999, show_default=True, help="Of samples between the two.")
@_SEED
@finding_options
def equality(*, mine: Path, endpoint: Path, as_json: bool, out: Path | None, **how: Any) -> None:
    """Test whether an ENDPOINT's samples could be MINE: is it literally my model?

    Both hold several samples of an answer to each question, at the same settings.
    """
    inputs = {"mine": mine, "endpoint": endpoint, **roles("reference", how["references"])}
    settings = {"identity": how["name"], "seed": how["seed"], "exchanges": how["exchanges"]}
    _run("equality", inputs, settings, as_json=as_json, out=out)


def _run(
    test: str, inputs: dict[str, Path], settings: dict[str, Any], *, as_json: bool, out: Path | None
) -> None:
    from stillwatch.cli.trace_words import tell
    from stillwatch.trace.bundle.steps import RUNNERS

    tell([RUNNERS[test](inputs, settings)], as_json=as_json, out=out)
