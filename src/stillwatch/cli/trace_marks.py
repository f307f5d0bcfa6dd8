"""`stillwatch trace radioactivity` and `watermark`: keys, in a suspect's words and in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillwatch.cli.trace_options import (
    FILE,
    FOLDER,
    NEW,
    OUTPUTS,
    SUSPECT,
    check_private,
    finding_options,
    read_key,
)

if TYPE_CHECKING:
    from stillwatch.trace.marked import MarkedText
    from stillwatch.trace.marks.protocol import Mark
    from stillwatch.trace.radioactivity.closed import CampaignFinding

#: Holds the watermark master key, as hex digits; the gateway and the model server read it too.
KEY_VARIABLE = "STILLWATCH_MARK_MASTER_KEY"
_TOKENIZER = click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of the model that was marked; the house prose teacher by default.",
)
_CAMPAIGNS = click.option(
    "--campaign", "campaigns", multiple=True,
    help="A campaign whose key is tried; repeat it, Holm's correction counts them all.",
)  # fmt: skip
_DECOYS = click.option("--decoys", default=999, show_default=True, help="Wrong keys to try beside.")
_AUDIT = click.option(
    "--audit", type=NEW, help="Write what the wrong keys say here, for `verdict`."
)
_KEY_FILE = click.option("--key-file", type=FILE, help="File of the master key, hex digits.")
_SEED = click.option("--seed", default=0, show_default=True, help="Of the wrong keys.")


@click.command("radioactivity")
@click.argument("outputs", type=OUTPUTS)
@_CAMPAIGNS
@click.option("--mark", "mark_file", type=FILE, help="A mark file, instead of the master key.")
@_KEY_FILE
@_TOKENIZER
@click.option(
    "--how", type=click.Choice(["closed", "weighted", "open", "supervised"]), default="closed",
    show_default=True, help="Which test; the last three need the marked model's weights.",
)  # fmt: skip
@click.option("--suspect-folder", type=FOLDER, help="The suspect's weights, for open.")
@click.option("--served", type=OUTPUTS, help="Answers that were served, for supervised.")
@click.option("--draw", default="served", show_default=True, help="Names their sampling.")
@click.option(
    "--temperature", default=1.0, show_default=True, help="That the marked model answered with."
)
@click.option(
    "--excess",
    type=NEW,
    help="Write what the weights of weighted and open come from here, for a bundle.",
)
@_DECOYS
@_SEED
@SUSPECT
@_AUDIT
@finding_options
def radioactivity(*, outputs: Path, as_json: bool, out: Path | None, **how: Any) -> None:
    """Test a suspect's OUTPUTS against campaigns' keys.

    The master key comes from STILLWATCH_MARK_MASTER_KEY or --key-file, as hex digits; a mark file
    brings its own. OUTPUTS are lines of {"question", "answer"}, a folder of `trace ask`, or a log.
    """
    import numpy as np

    from stillwatch.cli.trace_words import tell
    from stillwatch.trace.radioactivity.on_files import (
        RadioactivityFiles,
        find_radioactivity,
        find_served,
    )

    folder = _tokenizer(how["tokenizer"])
    if how["how"] == "closed" and how["mark_file"] is None:
        _closed(outputs, folder, as_json=as_json, out=out, how=how)
        return
    files = RadioactivityFiles(
        outputs, folder, _marks(how, folder), how["suspect_folder"], how["served"],
        how["temperature"],
    )  # fmt: skip
    if how["how"] == "supervised":
        tell([find_served(files, draw_id=how["draw"])], as_json=as_json, out=out)
        return
    rng = np.random.default_rng(how["seed"])
    found = find_radioactivity(
        files, how["how"], rng=rng, n_decoys=how["decoys"], excess=how["excess"]
    )
    _tell_marks(found, as_json=as_json, out=out, how=how)


@click.group("watermark")
def watermark() -> None:
    """A mark in a text of ours: is it there, and can it be embedded?"""


@watermark.command("test")
@click.argument("outputs", type=OUTPUTS)
@click.option("--mark", "mark_file", type=FILE, required=True, help="The mark file.")
@_CAMPAIGNS
@_TOKENIZER
@_DECOYS
@_SEED
@SUSPECT
@_AUDIT
@finding_options
def watermark_test(*, outputs: Path, as_json: bool, out: Path | None, **how: Any) -> None:
    """Test whether the texts in OUTPUTS were written under a mark.

    Any scheme that a mark file knows: ours, transformers', SynthID, vLLM's.
    """
    import numpy as np

    from stillwatch.trace.marked import find_marks
    from stillwatch.trace.outputs import open_tokens, read_outputs

    folder = _tokenizer(how["tokenizer"])
    tokens = open_tokens(folder)
    found = find_marks(
        tokens.encode(read_outputs(outputs)),
        _marks(how, folder),
        vocab_size=tokens.vocab_size,
        rng=np.random.default_rng(how["seed"]),
        n_decoys=how["decoys"],
    )
    _tell_marks(found, as_json=as_json, out=out, how=how)


@watermark.command("check")
@click.argument("questions", type=FILE)
@click.option("--mark", "mark_file", type=FILE, required=True, help="The mark file.")
@click.option("--campaign", "campaign", help="Try the sub-key of this campaign.")
@click.option("--folder", type=FOLDER, help="The model; the house prose teacher by default.")
@click.option("--temperature", default=1.0, show_default=True, help="Of the sampling.")
@click.option("--tokens", default=64, show_default=True, help="Of each answer at most.")
@click.option("--seed", default=0, show_default=True, help="Of the sampling.")
@finding_options
def watermark_check(*, questions: Path, as_json: bool, out: Path | None, **how: Any) -> None:
    """Embed a mark while a model answers QUESTIONS, and look for it with and without.

    The first finding is of answers with the mark, the second of answers without.
    """
    from stillwatch.cli.trace_words import tell
    from stillwatch.trace.marked import try_embedding
    from stillwatch.trace.suspect import read_prompts

    folder = _tokenizer(how["folder"])
    named = {**how, "campaigns": (how["campaign"],) if how["campaign"] else ()}
    found = try_embedding(
        next(iter(_marks(named, folder).values())),
        folder,
        [one.question for one in read_prompts(questions)],
        temperature=how["temperature"],
        max_new_tokens=how["tokens"],
        seed=how["seed"],
    )
    tell(list(found), as_json=as_json, out=out)


def _tokenizer(folder: Path | None) -> Path:
    from stillwatch.siege.teachers import house_teacher

    return folder or house_teacher("house-prose")


def _marks(how: Mapping[str, Any], folder: Path) -> dict[str, Mark]:
    """Open every mark that is asked for: campaigns of a mark file or of the master key."""
    from stillwatch.trace.marks.green import as_mark
    from stillwatch.trace.marks.markfile import read_mark_file
    from stillwatch.trace.outputs import open_tokens
    from stillwatch.trace.watermark import campaign_mark

    if how["mark_file"] is not None:
        check_private(how["mark_file"])
        held = read_mark_file(how["mark_file"], vocab_size=open_tokens(folder).vocab_size)
        return {name: held.campaign(name) for name in how["campaigns"]} or {"": held.mark}
    if not how["campaigns"]:
        return {}
    key = read_key(KEY_VARIABLE, how["key_file"])
    return {name: as_mark(campaign_mark(key, name)) for name in how["campaigns"]}


def _closed(
    outputs: Path, folder: Path, *, as_json: bool, out: Path | None, how: Mapping[str, Any]
) -> None:
    """The green list of our own campaigns: the test that a contest's report shows."""
    import numpy as np

    from stillwatch.cli.printing import print_json
    from stillwatch.cli.trace_words import tell_audit, write_json
    from stillwatch.trace.outputs import open_tokens, read_outputs
    from stillwatch.trace.radioactivity import closed as tests
    from stillwatch.trace.watermark import campaign_mark

    if not how["campaigns"]:
        message = "give --campaign, once for each key that is tried, or --mark"
        raise click.UsageError(message)
    tokens = open_tokens(folder)
    sequences, vocab_size = tokens.encode(read_outputs(outputs)), tokens.vocab_size
    key = read_key(KEY_VARIABLE, how["key_file"])
    marks = {name: campaign_mark(key, name) for name in how["campaigns"]}
    ranked = tests.rank_campaigns(sequences, marks, vocab_size=vocab_size)
    best = tests.test_radioactivity(
        sequences,
        marks[ranked[0].campaign_id],
        vocab_size=vocab_size,
        rng=np.random.default_rng(how["seed"]),
        n_decoys=how["decoys"],
    )
    findings = [best.finding()]
    write_json(findings, out)
    if how["audit"] is not None:
        logs = np.log10(np.maximum(best.decoy_p_values, 1e-300))
        tell_audit(findings[0], logs, suspect=how["suspect"], out=how["audit"])
    if as_json:
        decoy = {"rank_p": best.decoy_rank_p, "ks_p_value": best.ks_p_value_of_decoys}
        campaigns = [_row(found) for found in ranked]
        print_json({"campaigns": campaigns, "decoys": decoy, "findings": findings})
        return
    for found in ranked:
        click.echo(
            f"{found.campaign_id}: {found.counts.n_green:,} of {found.counts.n_windows:,} windows "
            f"green, log10 p = {found.log10_p:.2f}, after Holm {found.adjusted_log10_p:.2f}"
        )
    click.echo(
        f"{how['decoys']} wrong keys: rank p of the first campaign {best.decoy_rank_p:.2g}, "
        f"uniform at p = {best.ks_p_value_of_decoys:.2g}"
    )


def _tell_marks(
    found: Sequence[MarkedText], *, as_json: bool, out: Path | None, how: Mapping[str, Any]
) -> None:
    from stillwatch.cli.printing import print_json
    from stillwatch.cli.trace_words import finding_lines, tell_audit, write_json

    best = found[0]
    write_json([one.finding for one in found], out)
    if how["audit"] is not None:
        tell_audit(best.finding, best.decoy_log10_p, suspect=how["suspect"], out=how["audit"])
    if as_json:
        print_json({
            "marks": [
                {"name": one.name, "holm_log10_p": one.adjusted_log10_p, "finding": one.finding}
                for one in found
            ],
            "decoys": {"n": len(best.decoy_log10_p), "rank_p": best.decoy_rank_p},
        })
        return
    for one in found:
        click.echo(f"{one.name or 'the mark'}: after Holm {one.adjusted_log10_p:.2f}")
        for line in finding_lines(one.finding):
            click.echo(f"  {line}")
    if best.decoy_rank_p is not None:
        click.echo(f"{len(best.decoy_log10_p)} wrong keys: rank p {best.decoy_rank_p:.2g}")


def _row(found: CampaignFinding) -> dict[str, Any]:
    return {
        "campaign_id": found.campaign_id,
        "windows": found.counts.n_windows,
        "green": found.counts.n_green,
        "p_value": found.p_value,
        "log10_p": found.log10_p,
        "holm_log10_p": found.adjusted_log10_p,
    }
