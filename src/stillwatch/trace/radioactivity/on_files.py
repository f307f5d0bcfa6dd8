"""The radioactivity tests on files: outputs, served answers and model folders in, findings out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from stillwatch.errors import reject
from stillwatch.model.folder import TOKENIZER
from stillwatch.trace.marked import MarkedText, find_marks
from stillwatch.trace.marks.protocol import Mark
from stillwatch.trace.outputs import MarkedTokens, open_tokens, read_outputs
from stillwatch.trace.radioactivity.closed import N_REPEATED
from stillwatch.trace.radioactivity.excess_file import write_excess
from stillwatch.trace.radioactivity.likelihood import (
    FolderChances,
    NextChances,
    read_excess,
    written_excess,
)
from stillwatch.trace.radioactivity.served import (
    served_chances,
    test_served_closed,
    test_served_open,
)
from stillwatch.trace.radioactivity.shared_tokens import shared_chances
from stillwatch.trace.radioactivity.weighted import (
    WeightedWindows,
    rank_weighted,
    test_weighted,
    weigh_windows,
)
from stillwatch.trace.radioactivity.weights import Excess
from stillwatch.trace.radioactivity.windows import TokenSequence
from stillwatch.trace.verdicts.finding import Finding

How = Literal["closed", "weighted", "open", "supervised"]


@dataclass(frozen=True)
class RadioactivityFiles:
    """What the tests read.

    Attributes:
        outputs: the suspect's answers, or for `open` any text that does not carry the mark.
        tokenizer: the marking model's folder, or its `tokenizer.json`; for all but `closed` a
            folder with weights.
        marks: name -> mark, every key that is looked for.
        suspect: the suspect's folder, for `open`, and for `supervised` where it is to be had.
        served: answers that were served, for `supervised`.
        temperature: that the marked model answered with.
    """

    outputs: Path
    tokenizer: Path
    marks: Mapping[str, Mark]
    suspect: Path | None = None
    served: Path | None = None
    temperature: float = 1.0

    @cached_property
    def tokens(self) -> MarkedTokens:
        """The marking model's tokenizer, opened once."""
        return open_tokens(self.tokenizer)

    def sequences(self) -> list[TokenSequence]:
        """Read the outputs as the marking model's tokens.

        Returns:
            One sequence an output.
        """
        return self.tokens.encode(read_outputs(self.outputs))

    @property
    def vocab_size(self) -> int:
        """Size of the marking model's vocabulary (count)."""
        return self.tokens.vocab_size


def find_radioactivity(
    files: RadioactivityFiles,
    how: How,
    *,
    rng: np.random.Generator,
    n_decoys: int = 999,
    excess: Path | None = None,
) -> list[MarkedText]:
    """Test a suspect against every key of some campaigns.

    Args:
        files: what is read.
        how: `closed` counts windows of the suspect's answers; `weighted` weighs them by what the
            unmarked model would have written; `open` weighs the suspect's own chances.
        rng: draws the decoys' keys.
        n_decoys: decoy keys for the most suspicious campaign (count).
        excess: where `weighted` and `open` write what their weights come from, for a bundle, or
            None.

    Returns:
        One result a mark, most suspicious first.

    Raises:
        InvalidInputError: a file that the test needs is missing, or marks of unequal width.
    """
    if not files.marks:
        reject("radioactivity", "marks", "at least one", got=0)
    if how == "closed":
        return find_marks(
            files.sequences(),
            files.marks,
            vocab_size=files.vocab_size,
            rng=rng,
            n_decoys=n_decoys,
            n_repeated=N_REPEATED,
        )
    told = _excess(files, how)
    if excess is not None:
        write_excess(excess, told, vocab_size=files.vocab_size)
    return _weighted(files, how, weigh_windows(told), rng=rng, n_decoys=n_decoys)


def find_served(files: RadioactivityFiles, *, draw_id: str) -> Finding:
    """Test whether a suspect knows the very answers that were served.

    Args:
        files: what is read; `served` must be there, and at most one mark, which they carry.
        draw_id: names the sampling of the served answers; a withheld split of the same answers
            must carry the same name, because the two tests are not independent.

    Returns:
        The finding.

    Raises:
        InvalidInputError: there are no served answers, or several marks.
    """
    if files.served is None:
        reject("radioactivity", "served", "a file of served answers", got=None)
    if len(files.marks) > 1:
        reject("radioactivity", "marks", "the one that the served answers carry", got="several")
    tokens = files.tokens
    unmarked = FolderChances(files.tokenizer, temperature=files.temperature)
    served = served_chances(
        tokens.encode(read_outputs(files.served)),
        unmarked,
        mark=next(iter(files.marks.values()), None),
        vocab_size=tokens.vocab_size,
    )
    if files.suspect is not None:
        suspect, _ = _both_chances(files, unmarked)
        return test_served_open(served, suspect).finding(f"withheld:{draw_id}")
    written = written_excess(files.sequences(), unmarked, vocab_size=tokens.vocab_size)
    return test_served_closed(served, written).finding(f"withheld:{draw_id}")


def _weighted(
    files: RadioactivityFiles,
    how: How,
    weighed: WeightedWindows,
    *,
    rng: np.random.Generator,
    n_decoys: int,
) -> list[MarkedText]:
    ranked = rank_weighted(weighed, files.marks, vocab_size=files.vocab_size)
    found = []
    for place, one in enumerate(ranked):
        tested = test_weighted(
            weighed,
            files.marks[one.campaign_id],
            vocab_size=files.vocab_size,
            rng=rng,
            n_decoys=n_decoys if place == 0 else 1,
        )
        decoys = np.log10(np.maximum(tested.decoy_p_values, 1e-300)) if place == 0 else np.empty(0)
        finding = tested.finding(f"radioactivity-{how}")
        found.append(MarkedText(one.campaign_id, finding, one.adjusted_log10_p, decoys))
    return found


def _excess(files: RadioactivityFiles, how: How) -> Excess:
    widths = {mark.context_width for mark in files.marks.values()}
    if len(widths) > 1:
        reject("radioactivity", "marks", "of one context width", got=sorted(widths))
    width, vocab_size = widths.pop(), files.vocab_size
    unmarked = FolderChances(files.tokenizer, temperature=files.temperature)
    if how == "open":
        suspect, ours = _both_chances(files, unmarked)
        return read_excess(
            files.sequences(), suspect, ours, vocab_size=vocab_size, context_width=width
        )
    return written_excess(files.sequences(), unmarked, vocab_size=vocab_size, context_width=width)


def _both_chances(
    files: RadioactivityFiles, unmarked: NextChances
) -> tuple[NextChances, NextChances]:
    if files.suspect is None:
        reject("radioactivity", "suspect", "a model folder", got=None)
    ours, theirs = files.tokenizer / TOKENIZER, files.suspect / TOKENIZER
    if theirs.exists() and ours.read_bytes() != theirs.read_bytes():
        return shared_chances(files.tokenizer, files.suspect, unmarked)
    return FolderChances(files.suspect), unmarked
