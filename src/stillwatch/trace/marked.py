"""Does a text carry a mark, of any scheme and tokenizer? And can a mark be embedded at all?

This is the test of a *text*: what a model of yours wrote, or what somebody claims that it wrote. A
suspect that learned from marked text is tested by `radioactivity`, which weighs windows otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.errors import extra, reject
from stillwatch.model.folder import load_weights
from stillwatch.model.huggingface import is_house_folder, load_causal
from stillwatch.stats.multiple import holm_log10
from stillwatch.trace.marks.processor import MarkProcessor
from stillwatch.trace.marks.protocol import Mark, mark_windows
from stillwatch.trace.outputs import SuspectOutput, open_tokens
from stillwatch.trace.radioactivity.windows import TokenSequence, Windows
from stillwatch.trace.verdicts.finding import Finding

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MarkedText:
    """What one mark's test of a text found.

    Attributes:
        name: whose mark: a campaign, or the file's own key.
        finding: the exact test.
        adjusted_log10_p: after Holm's correction for all keys tried.
        decoy_log10_p: the same test with keys that nobody used, shape (n_decoys,); only the most
            suspicious mark is given decoys.
    """

    name: str
    finding: Finding
    adjusted_log10_p: float
    decoy_log10_p: Floats

    @property
    def decoy_rank_p(self) -> float | None:
        """(1 + decoys at least as suspicious) / (1 + decoys); None without decoys."""
        n = len(self.decoy_log10_p)
        if not n or self.finding.log10_p is None:
            return None
        return (1 + int(np.count_nonzero(self.decoy_log10_p <= self.finding.log10_p))) / (1 + n)


class Embedding(NamedTuple):
    """A mark tried on a model: answers with it, and answers without.

    Attributes:
        marked: the test of the answers with the mark; p should be small.
        unmarked: the test of the answers without; p should not.
    """

    marked: Finding
    unmarked: Finding


def find_marks(
    sequences: Sequence[TokenSequence],
    marks: Mapping[str, Mark],
    *,
    vocab_size: int,
    rng: np.random.Generator,
    n_decoys: int = 999,
    n_repeated: int | None = None,
) -> list[MarkedText]:
    """Look for marks in a text.

    Args:
        sequences: the text with the questions it answers, by the marking model's tokenizer.
        marks: name -> mark; every key that is looked for must be in here.
        vocab_size: size of the vocabulary.
        rng: draws the decoys' keys.
        n_decoys: decoy keys to try with the most suspicious mark (count).
        n_repeated: look at the windows that the text repeats most, at least so many: what a student
            learned it repeats; None looks at all, as for a text that carries the mark itself.

    Returns:
        One result a mark, most suspicious first.

    Raises:
        InvalidInputError: no mark, or a negative number of decoys.
    """
    if not marks:
        reject("find_marks", "marks", "at least one", got=0)
    if n_decoys < 0:
        reject("find_marks", "n_decoys", "at least 0", got=n_decoys)
    windows = _shared_windows(sequences, marks, vocab_size)
    if n_repeated is not None:
        windows = {shape: one.most_repeated(n_repeated) for shape, one in windows.items()}
    test = "watermark" if n_repeated is None else "radioactivity-closed"
    found = {}
    for name, mark in marks.items():
        scored = windows[mark.context_width, mark.pad]
        found[name] = mark_finding(mark, scored, vocab_size=vocab_size, test=test)
    holm = dict(zip(found, holm_log10([_log10_p(one) for one in found.values()]), strict=True))
    names = sorted(found, key=lambda name: (_log10_p(found[name]), name))
    best = marks[names[0]]
    decoys = [best.with_key(rng.bytes(32)) for _ in range(n_decoys)]
    scored = windows[best.context_width, best.pad]
    told = np.array([decoy.score(scored, vocab_size).log10_p for decoy in decoys])
    return [
        MarkedText(name, found[name], float(holm[name]), told if name == names[0] else told[:0])
        for name in names
    ]


def mark_finding(
    mark: Mark, windows: Windows, *, vocab_size: int, test: str = "watermark"
) -> Finding:
    """Score windows under one mark.

    Args:
        mark: the mark.
        windows: from `mark_windows`.
        vocab_size: size of the vocabulary.
        test: as the plan calls the test.

    Returns:
        The finding, its p exact for the key.
    """
    evidence = mark.score(windows, vocab_size)
    return Finding(
        test=test,
        statistic=evidence.statistic,
        p_value=evidence.p_value,
        log10_p=evidence.log10_p,
        randomisation=f"key:{mark.key_id}",
        n=evidence.n_windows,
        null=f"the text does not depend on the key ({evidence.null})",
    )


def try_embedding(
    mark: Mark,
    folder: Path,
    questions: Sequence[str],
    *,
    temperature: float = 1.0,
    max_new_tokens: int = 64,
    seed: int = 0,
) -> Embedding:
    """Let a model answer with a mark and without, and look for the mark in both.

    Args:
        mark: what is embedded.
        folder: a model folder, of a house model or any causal language model.
        questions: what is asked, at least one.
        temperature: above 0: without chance there is nothing to mark.
        max_new_tokens: of each answer (count).
        seed: of the sampling.

    Returns:
        Both tests, on the tokens as they were generated.

    Raises:
        InvalidInputError: no question, or a temperature that leaves no choice.
    """
    if not questions:
        reject("try_embedding", "questions", "at least one", got=0)
    if not temperature > 0:
        reject("try_embedding", "temperature", "above 0", got=temperature)
    tokens = open_tokens(folder)
    asked = [
        list(one.token_ids[: one.n_prompt])
        for one in tokens.encode([SuspectOutput("", question) for question in questions])
    ]
    is_house = is_house_folder(folder)
    model = load_weights(folder) if is_house else load_causal(folder, precision="float32")
    settings = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    findings = []
    for embedded in (mark, None):
        texts = [_answered(model, prompt, embedded, settings=settings) for prompt in asked]
        windows = mark_windows(texts, mark, vocab_size=tokens.vocab_size)
        findings.append(mark_finding(mark, windows, vocab_size=tokens.vocab_size))
    return Embedding(*findings)


def _answered(
    model: Any, prompt: Sequence[int], mark: Mark | None, *, settings: Mapping[str, Any]
) -> TokenSequence:
    with extra("train"):
        import torch
        from transformers import LogitsProcessorList
    processors = LogitsProcessorList()
    if mark is not None:
        processors.append(MarkProcessor(mark, len(prompt), temperature=settings["temperature"]))
    ids = torch.tensor([list(prompt)])
    # `generate` knows no generator of its own, so the global one is lent and given back.
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(settings["seed"])
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=settings["temperature"],
            top_k=0,
            top_p=1.0,
            max_new_tokens=settings["max_new_tokens"],
            logits_processor=processors,
        )
    return TokenSequence(made[0].tolist(), len(prompt))


def _shared_windows(
    sequences: Sequence[TokenSequence], marks: Mapping[str, Mark], vocab_size: int
) -> dict[tuple[int, int | None], Windows]:
    """Cut the text into windows once for all marks of one shape."""
    found: dict[tuple[int, int | None], Windows] = {}
    for mark in marks.values():
        if (mark.context_width, mark.pad) not in found:
            windows = mark_windows(sequences, mark, vocab_size=vocab_size)
            found[mark.context_width, mark.pad] = windows
    return found


def _log10_p(found: Finding) -> float:
    assert found.log10_p is not None, "a mark's test has a p-value"
    return found.log10_p
