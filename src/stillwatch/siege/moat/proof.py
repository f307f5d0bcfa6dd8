"""The proof: the suspects' outputs tested against the campaign's watermark key, and decoys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stillwatch.distill.training.train import Pair
from stillwatch.model.folder import ChatTokenizer
from stillwatch.siege.copies import Trained
from stillwatch.siege.folder import read_json
from stillwatch.siege.moat.rounds import RoundRecord
from stillwatch.siege.prose import as_sequences
from stillwatch.siege.teachers import house_teacher
from stillwatch.trace.radioactivity import closed as radioactivity
from stillwatch.trace.watermark import GreenListMark, TokenSequence, campaign_mark

_LABELS = {
    "marked": "student trained on what the campaign got with the wall on",
    "innocent": "student trained on ordinary text that no model wrote",
    "unmarked": "student trained on what the campaign got with the wall off",
}


class ProseRun(msgspec.Struct, frozen=True):
    """`prose.json`: the questions fixed beforehand and what each suspect said.

    Attributes:
        questions: asked of every suspect.
        suspects: by name; marked, innocent and, in the default run, unmarked.
        marked_share: share of the marked suspect's training answers that carried a mark.
    """

    questions: tuple[str, ...]
    suspects: dict[str, Trained]
    marked_share: float


def describe_proof(
    path: Path, on: RoundRecord, *, master_key: bytes, seed: int, n_decoys: int
) -> dict[str, Any] | None:
    """Compute the moat report's `proof`.

    Args:
        path: `prose.json`.
        on: the round with the wall on, whose campaigns' keys are tried.
        master_key: the campaigns' keys come from it.
        seed: of the decoys.
        n_decoys: wrong keys for each suspect (count).

    Returns:
        Plain data; None when no campaign was named, so that there is no key to try.
    """
    run = msgspec.convert(read_json(path), ProseRun)
    named = {found.campaign_id: found for learned in on.learned for found in learned.campaigns}
    if not named:
        return None
    marks = {name: campaign_mark(master_key, name) for name in named}
    guilty = on.guilty
    true_campaign = max(named, key=lambda name: len(guilty.intersection(named[name].accounts)))
    first = marks[true_campaign]
    proof: dict[str, Any] = {
        "mark": {
            "gamma": first.gamma,
            "delta": first.delta,
            "context_width": first.context_width,
        },
        "keys_tried": len(marks),
        "marked_share": run.marked_share,
    }
    for number, (name, suspect) in enumerate(run.suspects.items()):
        sequences = sequences_of(run.questions, suspect)
        rng = np.random.default_rng([seed, number])
        described, found = _test(sequences, marks, true_campaign, rng=rng, n_decoys=n_decoys)
        proof[name] = {
            "label": _LABELS[name],
            "outputs": len(suspect.answers),
            "trained_on": suspect.n_pairs,
            **described,
            "true_campaign": true_campaign if name == "marked" else None,
        }
        proof["decoys" if name == "marked" else f"{name}_decoys"] = {
            "n": len(found.decoy_p_values),
            "p_values": [float(p) for p in found.decoy_p_values],
            "ks_p_value": found.ks_p_value_of_decoys,
        }
    return proof


def sequences_of(questions: tuple[str, ...], suspect: Trained) -> list[TokenSequence]:
    """Encode what a suspect said with the marking teacher's tokenizer.

    Args:
        questions: as they were asked.
        suspect: with one answer a question.

    Returns:
        One sequence a question.
    """
    pairs = [Pair(q, answer) for q, answer in zip(questions, suspect.answers, strict=True)]
    return as_sequences(pairs, tokenizer=house_teacher("house-prose"))


def _test(
    sequences: list[TokenSequence],
    marks: Mapping[str, GreenListMark],
    campaign: str,
    *,
    rng: np.random.Generator,
    n_decoys: int,
) -> tuple[dict[str, Any], radioactivity.Radioactivity]:
    vocab_size = ChatTokenizer(house_teacher("house-prose")).vocab_size
    found = radioactivity.test_radioactivity(
        sequences, marks[campaign], vocab_size=vocab_size, rng=rng, n_decoys=n_decoys
    )
    tried = radioactivity.rank_campaigns(sequences, marks, vocab_size=vocab_size)
    corrected = next(entry for entry in tried if entry.campaign_id == campaign)
    named = radioactivity.name_campaign(sequences, marks, vocab_size=vocab_size)
    described = {
        "windows": found.n_windows,
        "green": found.n_green,
        "green_rate": found.green_rate,
        "p_value": found.p_value,
        "log10_p": found.log10_p,
        "decoy_rank_p": found.decoy_rank_p,
        "holm_p_value": corrected.adjusted_p_value,
        "holm_log10_p": corrected.adjusted_log10_p,
        "named_campaign": named.campaign_id if named is not None else None,
    }
    return described, found
