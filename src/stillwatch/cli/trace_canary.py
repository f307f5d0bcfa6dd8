"""`stillwatch trace canary` and `trace withheld`: our own draws, planned, made and tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stillwatch.cli.trace_options import (
    FILE,
    JSON,
    NEW,
    OUTPUTS,
    SUSPECT,
    decoded,
    finding_options,
    read_key,
    write_private,
)

CANARY_KEY = "STILLWATCH_CANARY_KEY"
WITHHELD_KEY = "STILLWATCH_WITHHELD_KEY"
_KEY_FILE = click.option(
    "--key-file", type=FILE, help="File of the key, hex digits, readable by its owner only."
)
_ALPHA = click.option("--alpha", default=1e-6, show_default=True, help="p-value to reach.")
_POWER = click.option("--power", default=0.9, show_default=True, help="Chance of reaching it.")
_DECOYS = click.option(
    "--decoys", default=0, show_default=True, help="Draws that nobody served, tried beside it."
)
_SEED = click.option("--seed", default=0, show_default=True, help="Of the decoys.")
_AUDIT = click.option("--audit", type=NEW, help="Write what the decoys say here, for `verdict`.")


@click.group("canary")
def canary() -> None:
    """Randomised canaries: variants drawn by a key, one of them served."""


@canary.command("plan")
@click.option("--n", type=int, help="Canaries; the fewest that give the power unless told.")
@click.option("--variants", default=10, show_default=True, help="Variants of each canary.")
@click.option("--adoption", required=True, type=float, help="Share that a student takes over.")
@click.option("--spread", default=0.0, show_default=True, help="How unsure that share is.")
@click.option("--named", default=1.0, show_default=True, help="Share of probes that show one.")
@_ALPHA
@_POWER
@JSON
def canary_plan(*, as_json: bool, **how: Any) -> None:
    """Say how many canaries a proof needs, or what power a number of them has."""
    from stillwatch.cli.printing import print_json
    from stillwatch.trace.canaries.proof import Adoption, plan_canaries

    found = plan_canaries(
        how["n"],
        how["variants"],
        adoption=Adoption(how["adoption"], how["spread"], how["named"]),
        alpha=how["alpha"],
        power=how["power"],
    )
    if as_json:
        print_json(found._asdict())
        return
    click.echo(
        f"{found.n:,} canaries of {found.m} variants: {found.critical:,} matches reach "
        f"p = {found.alpha:g}, with power {found.power:.3f} at adoption {found.adoption.mean:g}"
    )


@canary.command("draw")
@click.argument("canaries", type=FILE)
@click.option("--out", required=True, type=NEW, help="The assignment: a new file, kept secret.")
@click.option("--beacon", default="", help="Public bytes nobody could foresee, as hex digits.")
@_KEY_FILE
@JSON
def canary_draw(
    *, canaries: Path, out: Path, beacon: str, key_file: Path | None, as_json: bool
) -> None:
    """Draw which variant of each of CANARIES is served, and print the commitment.

    CANARIES holds a line each of canary_id, probe and variants. The key comes from --key-file or
    STILLWATCH_CANARY_KEY. Publish or time-stamp the commitment before anything is served.
    """
    from stillwatch.trace.canaries.canary import draw_assignment, read_canaries

    drawn = draw_assignment(
        read_canaries(canaries),
        key=read_key(CANARY_KEY, key_file),
        beacon=_hex(beacon),
    )
    write_private(out, drawn)
    _tell_drawn(drawn.commitment, drawn.randomisation, n=len(drawn.canaries), as_json=as_json)


@canary.command("test")
@click.argument("assignment", type=FILE)
@click.argument("outputs", type=OUTPUTS)
@click.option("--void", multiple=True, help="A canary that was not served, or leaked; repeat it.")
@click.option("--sequential", is_flag=True, help="Asked in order, and looked at on the way.")
@SUSPECT
@_DECOYS
@_SEED
@_AUDIT
@finding_options
def canary_test(*, assignment: Path, outputs: Path, as_json: bool, out: Path, **how: Any) -> None:
    """Test whether a suspect's OUTPUTS show the variants that ASSIGNMENT drew.

    The questions of OUTPUTS are the canaries' probes; `trace ask` asks them when its prompts are
    the file of canaries.
    """
    from stillwatch.trace.bundle.steps import RUNNERS
    from stillwatch.trace.canaries.canary import Assignment, picks_of
    from stillwatch.trace.canaries.proof import redrawn_log10_p
    from stillwatch.trace.outputs import read_outputs

    inputs = {"assignment": assignment, "outputs": outputs}
    settings = {"void": how["void"], "sequential": how["sequential"]}
    found = RUNNERS["canary"](inputs, settings)

    def redraw(draws: int, rng: Any) -> Any:
        drawn = decoded(assignment, Assignment)
        kept = [one for one in drawn.canaries if one.canary_id not in how["void"]]
        return redrawn_log10_p(drawn, picks_of(kept, read_outputs(outputs)), draws=draws, rng=rng)

    _audit(found, redraw, **how)
    _tell(found, as_json=as_json, out=out)


@click.group("withheld")
def withheld() -> None:
    """The withheld split: answers served or kept back by the toss of a secret coin."""


@withheld.command("plan")
@click.option("--effect", required=True, type=float, help="Served above withheld, in sd.")
@click.option("--share", default=0.5, show_default=True, help="Chance of being served.")
@click.option("--pairs", is_flag=True, help="One of two renderings of each answer is served.")
@_ALPHA
@_POWER
@JSON
def withheld_plan(*, as_json: bool, pairs: bool, **how: Any) -> None:
    """Say how many answers to draw about."""
    from stillwatch.cli.printing import print_json
    from stillwatch.trace.canaries.withheld import plan_withheld

    found = plan_withheld(
        how["effect"],
        alpha=how["alpha"],
        power=how["power"],
        share=how["share"],
        design="pair" if pairs else "split",
    )
    if as_json:
        print_json(found._asdict())
        return
    click.echo(f"{found.n:,} answers, served and withheld together, for p = {found.alpha:g}")


@withheld.command("draw")
@click.argument("items", type=FILE)
@click.option("--out", required=True, type=NEW, help="The split: a new file, kept secret.")
@click.option("--share", default=0.5, show_default=True, help="Chance of being served.")
@click.option("--pairs", is_flag=True, help="One of two renderings of each answer is served.")
@_KEY_FILE
@JSON
def withheld_draw(
    *, items: Path, out: Path, share: float, pairs: bool, key_file: Path | None, as_json: bool
) -> None:
    """Draw which of ITEMS (a name a line) are served, and print the commitment.

    The key comes from --key-file or STILLWATCH_WITHHELD_KEY. Publish or time-stamp the commitment
    before anything is served.
    """
    from stillwatch.trace.canaries.withheld import draw_split

    names = [line.strip() for line in items.read_text("utf-8").splitlines() if line.strip()]
    drawn = draw_split(
        names,
        key=read_key(WITHHELD_KEY, key_file),
        share=share,
        design="pair" if pairs else "split",
    )
    write_private(out, drawn)
    _tell_drawn(drawn.commitment, drawn.randomisation, n=len(names), as_json=as_json)


@withheld.command("test")
@click.argument("split", type=FILE)
@click.argument("scores", type=FILE)
@click.option("--control", type=FILE, help="Scores of a model that never saw any of it.")
@SUSPECT
@_DECOYS
@_SEED
@_AUDIT
@finding_options
def withheld_test(*, split: Path, scores: Path, as_json: bool, out: Path, **how: Any) -> None:
    """Test whether SCORES, a suspect's likelihoods by item, favour what SPLIT served.

    SCORES is a JSON object: item -> mean log-likelihood per token of the answer; for pairs a list
    of two, one a rendering.
    """
    from stillwatch.trace.bundle.steps import RUNNERS
    from stillwatch.trace.canaries.withheld import Split, redrawn_log10_p

    inputs = {"split": split, "scores": scores}
    if how["control"] is not None:
        inputs["control"] = how["control"]
    found = RUNNERS["withheld"](inputs, {})

    def redraw(draws: int, rng: Any) -> Any:
        told = decoded(scores, dict[str, float | tuple[float, float]])
        return redrawn_log10_p(decoded(split, Split), told, draws=draws, rng=rng)

    _audit(found, redraw, **how)
    _tell(found, as_json=as_json, out=out)


def _audit(found: Any, redraw: Any, **how: Any) -> None:
    """Try draws that nobody served on the same answers, and write what they say."""
    if not how["decoys"]:
        return
    import numpy as np

    from stillwatch.cli.trace_words import tell_audit

    rng = np.random.default_rng(how["seed"])
    redrawn = redraw(how["decoys"], rng)
    tell_audit(found, redrawn, suspect=how["suspect"], out=how["audit"])


def _tell(found: Any, *, as_json: bool, out: Path | None) -> None:
    from stillwatch.cli.trace_words import tell

    tell([found], as_json=as_json, out=out)


def _tell_drawn(commitment: str, randomisation: str, *, n: int, as_json: bool) -> None:
    from stillwatch.cli.printing import print_json

    if as_json:
        print_json({"commitment": commitment, "randomisation": randomisation, "n": n})
        return
    click.echo(f"{n:,} drawn as {randomisation}; publish before serving: {commitment}")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        message = "--beacon must be hex digits"
        raise click.BadParameter(message) from error
