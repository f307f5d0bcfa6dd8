"""`stillwatch trace`: test whether a suspect model was trained on your answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from stillwatch.cli.trace_ask import ask

if TYPE_CHECKING:
    from stillwatch.trace.radioactivity import CampaignFinding

#: Holds the watermark master key, as hex digits; the gateway and the model server read it too.
KEY_VARIABLE = "STILLWATCH_MARK_MASTER_KEY"


@click.group("trace")
def command() -> None:
    """Evidence that a suspect model was trained on your answers."""


command.add_command(ask)


@command.command("radioactivity")
@click.argument("outputs", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--campaign",
    "campaigns",
    multiple=True,
    required=True,
    help="A campaign whose key is tried; repeat it, Holm's correction counts them all.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of the model that was marked; the house prose teacher by default.",
)
@click.option("--decoys", default=999, show_default=True, help="Wrong keys to try beside it.")
@click.option("--seed", default=0, show_default=True, help="Of the wrong keys.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def radioactivity(
    *,
    outputs: Path,
    campaigns: tuple[str, ...],
    tokenizer: Path | None,
    decoys: int,
    seed: int,
    as_json: bool,
) -> None:
    """Test a suspect's OUTPUTS (lines of {"question", "answer"}) against campaigns' keys.

    The master key comes from the environment variable STILLWATCH_MARK_MASTER_KEY, as hex digits.
    """
    import numpy as np

    from stillwatch.model.folder import ChatTokenizer
    from stillwatch.siege.teachers import house_teacher
    from stillwatch.trace import radioactivity as tests
    from stillwatch.trace.outputs import encode_outputs, read_outputs
    from stillwatch.trace.watermark import campaign_mark

    folder = tokenizer or house_teacher("house-prose")
    sequences = encode_outputs(read_outputs(outputs), folder)
    vocab_size = ChatTokenizer(folder).vocab_size
    master_key = _master_key()
    marks = {name: campaign_mark(master_key, name) for name in campaigns}
    ranked = tests.rank_campaigns(sequences, marks, vocab_size=vocab_size)
    best = tests.test_radioactivity(
        sequences,
        marks[ranked[0].campaign_id],
        vocab_size=vocab_size,
        rng=np.random.default_rng(seed),
        n_decoys=decoys,
    )
    if as_json:
        decoy = {"rank_p": best.decoy_rank_p, "ks_p_value": best.ks_p_value_of_decoys}
        document = {"campaigns": [_row(found) for found in ranked], "decoys": decoy}
        click.echo(msgspec.json.format(msgspec.json.encode(document)))
        return
    for found in ranked:
        click.echo(
            f"{found.campaign_id}: {found.counts.n_green:,} of {found.counts.n_windows:,} windows "
            f"green, log10 p = {found.log10_p:.2f}, after Holm {found.adjusted_log10_p:.2f}"
        )
    click.echo(
        f"{decoys} wrong keys: rank p of the first campaign {best.decoy_rank_p:.2g}, "
        f"uniform at p = {best.ks_p_value_of_decoys:.2g}"
    )


def _row(found: CampaignFinding) -> dict[str, Any]:
    return {
        "campaign_id": found.campaign_id,
        "windows": found.counts.n_windows,
        "green": found.counts.n_green,
        "p_value": found.p_value,
        "log10_p": found.log10_p,
        "holm_log10_p": found.adjusted_log10_p,
    }


def _master_key() -> bytes:
    text = os.environ.get(KEY_VARIABLE, "")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < 16:
        _no_key()
    return key


def _no_key() -> NoReturn:
    from stillwatch.errors import ConfigError

    message = f"environment: {KEY_VARIABLE} must be at least 32 hex digits"
    raise ConfigError(message, hint="it is the key that the gateway marked with")
