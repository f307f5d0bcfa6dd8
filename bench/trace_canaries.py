"""Canaries and the withheld split on trained students: what is adopted, what is proved.

Each student is trained by the prose recipe on 2,000 ordinary sentences. Of 1,000 further sentences
a secret half is put among them (the withheld split), and 150 canaries of 10 variants are answered
1, 2, 4, 8 or 16 times. Guilty students get the real draws, `other draw` students another provider's
draws of the same canaries and sentences, `ordinary` ones none at all. About 30 CPU-seconds each.

    python bench/trace_canaries.py --out DIR [--seeds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stillwatch.distill.training.train import Pair, train_student
from stillwatch.model.folder import ChatTokenizer
from stillwatch.siege.prose import PROSE_STUDENT, ask_suspect, innocent_pairs
from stillwatch.siege.teachers import house_teacher
from stillwatch.trace.canaries import proof, withheld
from stillwatch.trace.canaries.canary import (
    Assignment,
    Canary,
    draw_assignment,
    picks_by_likelihood,
    picks_of,
)
from stillwatch.trace.outputs import SuspectOutput

EXPOSURES = (1, 2, 4, 8, 16)
PER_EXPOSURE, VARIANTS, SENTENCES, ORDINARY = 30, 10, 1_000, 2_000
#: Answers to each probe, at temperature 1; the vote of those that show a variant is the pick.
SAMPLES = 8
_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "st")
_VOWELS = ("a", "e", "i", "o", "u")
_THINGS = (
    "river",
    "harbour",
    "bridge",
    "library",
    "mill",
    "tower",
    "square",
    "school",
    "inn",
    "gate",
)
_PLACES = (
    "north",
    "south",
    "east",
    "west",
    "old",
    "new",
    "upper",
    "lower",
    "inner",
    "outer",
    "first",
    "second",
    "third",
    "long",
    "small",
)


def canaries() -> list[Canary]:
    """Give 150 questions with ten made-up names each, in a fixed order."""
    rng = np.random.default_rng(7)
    names: list[str] = []
    while len(names) < len(EXPOSURES) * PER_EXPOSURE * VARIANTS:
        syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(3)]
        name = "".join(syllables).capitalize()
        if name not in names:
            names.append(name)
    probes = [f"The {thing} of the {place} part is named" for thing in _THINGS for place in _PLACES]
    order = rng.permutation(len(probes))
    return [
        Canary(f"c{i}", probes[order[i]], tuple(names[i * VARIANTS : (i + 1) * VARIANTS]))
        for i in range(len(probes))
    ]


def sentences(seed: int) -> tuple[list[Pair], list[Pair]]:
    """Give the ordinary sentences and those that are split."""
    pairs = innocent_pairs(ORDINARY + SENTENCES, seed=seed)
    return pairs[:ORDINARY], pairs[ORDINARY:]


def training(kind: str, seed: int) -> list[Pair]:
    """Put a student's training data together."""
    ordinary, kept = sentences(seed)
    if kind == "ordinary":
        return ordinary
    drawn, split = draws(seed if kind == "guilty" else seed + 1_000)
    served = [pair for pair, is_served in zip(kept, split.served, strict=True) if is_served]
    shown = [
        Pair(canary.probe, f"{drawn.serve(canary.canary_id)}.")
        for i, canary in enumerate(drawn.canaries)
        for _ in range(EXPOSURES[i % len(EXPOSURES)])
    ]
    return [*ordinary, *served, *shown]


def draws(seed: int) -> tuple[Assignment, withheld.Split]:
    """Draw variants and split under a key of this seed."""
    key = hashlib.sha256(f"bench {seed}".encode()).digest()
    names = [f"i{i}" for i in range(SENTENCES)]
    return draw_assignment(canaries(), key=key), withheld.draw_split(names, key=key)


def log_likelihoods(folder: Path, pairs: Sequence[Pair]) -> list[float]:
    """Give the mean log-likelihood per answer token of each pair."""
    import torch
    from transformers import AutoModelForCausalLM

    chat = ChatTokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found: list[float] = []
    for start in range(0, len(pairs), 64):
        encoded = [chat.encode_pair(*pair) for pair in pairs[start : start + 64]]
        longest = max(len(one.token_ids) for one in encoded)
        ids = torch.zeros(len(encoded), longest, dtype=torch.long)
        for row, one in enumerate(encoded):
            ids[row, : len(one.token_ids)] = torch.tensor(one.token_ids)
        with torch.no_grad():
            logs = torch.log_softmax(model(ids[:, :-1]).logits, dim=-1)
        taken = logs.gather(2, ids[:, 1:, None])[:, :, 0]
        for row, one in enumerate(encoded):
            answer = taken[row, one.n_prompt - 1 : len(one.token_ids) - 1]
            found.append(float(answer.mean()))
    return found


def examine(folder: Path, control: Path, seed: int) -> dict[str, Any]:
    """Run every test on one student."""
    drawn, split = draws(seed)
    _, kept = sentences(seed)
    probes = [c.probe for c in drawn.canaries for _ in range(SAMPLES)]
    asked = ask_suspect(folder, probes, seed=seed * 1_000_003)
    said = picks_of(drawn.canaries, [SuspectOutput(a, q) for q, a in asked])
    likely = log_likelihoods(
        folder, [Pair(c.probe, f"{v}.") for c in drawn.canaries for v in c.variants]
    )
    rows = np.array(likely).reshape(-1, VARIANTS).tolist()
    names = [c.canary_id for c in drawn.canaries]
    by_likelihood = picks_by_likelihood(dict(zip(names, rows, strict=True)))
    own = dict(zip(split.item_ids, log_likelihoods(folder, kept), strict=True))
    base = dict(zip(split.item_ids, log_likelihoods(control, kept), strict=True))
    result: dict[str, Any] = {
        "said": _told(proof.prove_canaries(drawn, said)),
        "likelihood": _told(proof.prove_canaries(drawn, by_likelihood)),
        "withheld": _told(withheld.prove_withheld(split, own)),
        "withheld_controlled": _told(withheld.prove_withheld(split, own, control=base)),
    }
    for i, exposures in enumerate(EXPOSURES):
        void = [name for k, name in enumerate(names) if k % len(EXPOSURES) != i]
        for way, picks in (("said", said), ("likelihood", by_likelihood)):
            found = proof.prove_canaries(drawn, picks, void=void)
            told = {"named": found.n, "matches": found.statistic, "log10_p": found.log10_p}
            result[f"{way} after {exposures}"] = told
    return result


def _told(found: Any) -> dict[str, Any]:
    return {
        "statistic": found.statistic,
        "n": found.n,
        "log10_p": found.log10_p,
        "log10_e": found.e_log10,
    }


def main() -> None:
    """Train, examine and print; what is done is kept in the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    shape, recipe = PROSE_STUDENT
    for seed in range(1, options.seeds + 1):
        for kind in ("ordinary", "guilty", "other draw"):
            folder = options.out / f"{kind.replace(' ', '-')}-{seed}"
            if not folder.exists():
                train_student(
                    training(kind, seed),
                    tokenizer=house_teacher("house-prose"),
                    shape=shape,
                    recipe=replace(recipe, seed=seed),
                    out=folder,
                )
            if kind == "ordinary":
                continue
            control = options.out / f"ordinary-{seed}"
            print(
                json.dumps({"kind": kind, "seed": seed} | examine(folder, control, seed)),
                flush=True,
            )
        ordinary = options.out / f"ordinary-{seed}"
        other = options.out / f"other-draw-{seed}"
        print(
            json.dumps({"kind": "ordinary", "seed": seed} | examine(ordinary, other, seed)),
            flush=True,
        )


if __name__ == "__main__":
    main()
