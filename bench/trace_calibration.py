"""Do the marks' p-values keep their word on innocent text, and what do other detectors say of it?

    python bench/trace_calibration.py --work DIR [--decoys 10000] [--others N] [--theirs 300]

Innocent texts: templated letters (one skeleton, few words that change), ordinary sentences, and the
answers of a student that was trained on human text alone. Every scheme scores each with decoy keys;
the table gives the share of p-values at or below a level, in units of the level. Beside it, on the
same tokens in the same run: transformers' own `WatermarkDetector`, and vLLM's rule (contexts once
per document, not per corpus) on the same values. Then the far tail against exact sums in whole
numbers, and marked text, with and without entropy weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.train import Pair, train_student
from stillwatch.model.folder import ChatTokenizer
from stillwatch.siege.prose import (
    PROSE_STUDENT,
    as_sequences,
    ask_suspect,
    innocent_pairs,
    passages,
    suspect_questions,
)
from stillwatch.siege.teachers import house_teacher
from stillwatch.stats.pvalues import gamma_upper_tail
from stillwatch.trace.marks.entropy import entropy_weights
from stillwatch.trace.marks.green import as_mark
from stillwatch.trace.marks.gumbel import gumbel_mark
from stillwatch.trace.marks.kgw import TransformersGreenMark
from stillwatch.trace.marks.protocol import Mark, mark_windows
from stillwatch.trace.marks.synthid import SynthIdMark
from stillwatch.trace.marks.tails import bernoulli_term, exponential_upper_tail, lattice_upper_tail
from stillwatch.trace.marks.tournament import tournament_mark
from stillwatch.trace.marks.vllm import VllmGreenMark, VllmGumbelMark
from stillwatch.trace.radioactivity.windows import TokenSequence, Windows
from stillwatch.trace.watermark import campaign_mark

Floats = npt.NDArray[np.float64]
Texts = dict[str, list[TokenSequence]]

LEVELS = (0.1, 0.05, 0.01, 0.001)
VOCAB = 1024
MASTER = b"the master key of this benchmark, not of any house"
SCHEMES: dict[str, Mark] = {
    "green": as_mark(campaign_mark(MASTER, "bench")),
    "gumbel": gumbel_mark(MASTER),
    "tournament": tournament_mark(MASTER),
    "transformers lefthash": TransformersGreenMark(15485863, VOCAB),
    "transformers selfhash 4": TransformersGreenMark(15485863, VOCAB, "selfhash", 4),
    "transformers synthid": SynthIdMark(tuple(range(1, 31))),
    "vllm gumbel": VllmGumbelMark(42),
    "vllm dual key": VllmGumbelMark(42, alpha=0.1),
    "vllm red-green": VllmGreenMark(42, "philox", gamma=0.25),
    "vllm sbw selfhash": VllmGreenMark(42, "selfhash"),
}
_NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ira", "Jan", "Kim", "Lea"]
_THINGS = [
    "the report",
    "the parser",
    "your key",
    "the archive",
    "the list",
    "our server",
    "the test",
]
_LETTER = (
    "Dear {name}, thank you for your message about {thing}. We have looked at it and found that "
    "{thing} is in order. If it is not, please send us the name of {other} and the time. We will "
    "answer on the same day. With kind regards, {sender}, who looks after {other}."
)


def templated(n: int, *, seed: int) -> list[str]:
    """Fill one letter n times."""
    rng = np.random.default_rng(seed)

    def pick(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    return [
        _LETTER.format(
            name=pick(_NAMES), thing=pick(_THINGS), other=pick(_THINGS), sender=pick(_NAMES)
        )
        for _ in range(n)
    ]


def innocent_texts(work: Path) -> Texts:
    """Read or make the three innocent corpora, as tokens of the house teacher."""
    folder = house_teacher("house-prose")
    chat = ChatTokenizer(folder)
    rng = np.random.default_rng(1)
    chosen = rng.choice(len(passages()), size=400, replace=False)
    ordinary = [passages()[i].text for i in chosen]
    kept = work / "innocent.json"
    if not kept.exists():
        shape, recipe = PROSE_STUDENT
        out = work / "innocent-student"
        train_student(
            innocent_pairs(2000, seed=5), tokenizer=folder, shape=shape, recipe=recipe, out=out
        )
        kept.write_text(json.dumps(ask_suspect(out, suspect_questions(300, seed=6), seed=7)))
    student = [Pair(*pair) for pair in json.loads(kept.read_text())]

    def encoded(texts: Sequence[str]) -> list[TokenSequence]:
        return [TokenSequence(*chat.encode_pair("", text)) for text in texts]

    return {
        "templated": encoded(templated(200, seed=2)),
        "ordinary": encoded(ordinary),
        "student": as_sequences(student, tokenizer=folder),
    }


def first_windows(texts: Sequence[TokenSequence], mark: Mark, n: int) -> Windows:
    """Take n distinct windows, drawn once for all keys, so that schemes cost alike."""
    windows = mark_windows(texts, mark, vocab_size=VOCAB)
    if len(windows.token_ids) <= n:
        return windows
    keep = np.zeros(len(windows.token_ids), dtype=bool)
    keep[np.random.default_rng(3).choice(len(keep), size=n, replace=False)] = True
    return windows.keep(keep)


def rejections(p_values: Floats) -> str:
    """Write the share of p-values at each level, in units of the level."""
    return "  ".join(f"{np.mean(p_values <= level) / level:6.2f}" for level in LEVELS)


def calibrate(texts: Texts, n_decoys: dict[str, int], n_windows: int) -> dict[str, list[float]]:
    """Score every innocent corpus with decoy keys of every scheme."""
    head = "  ".join(f"p<={level:g}" for level in LEVELS)
    print(f"\n2. rejection / level over decoy keys   {head}   windows  keys  CPU-s")
    results: dict[str, list[float]] = {}
    for name, (scheme, mark) in itertools.product(texts, SCHEMES.items()):
        corpus = texts[name]
        # A permutation for every list costs more than a hash: half the windows.
        n_scored = n_windows // 2 if scheme.startswith("transformers") else n_windows
        windows = first_windows(corpus, mark, n_scored)
        rng, began = np.random.default_rng(11), time.process_time()
        p = np.array([
            mark.with_key(rng.bytes(32)).score(windows, VOCAB).p_value
            for _ in range(n_decoys[name])
        ])
        spent = time.process_time() - began
        row = f"{scheme:24s} {name:10s} {rejections(p)}"
        print(f"{row}   {len(windows.token_ids):5d} {len(p):6d} {spent:6.1f}", flush=True)
        results[f"{scheme}|{name}"] = [float(np.mean(p <= level)) for level in LEVELS]
    return results


def repeated_per_document(texts: Texts, n_decoys: int) -> None:
    """Score each context once a document (vLLM's rule) and add documents up."""
    print("\n3. the same values, contexts once per document only, documents added up")
    mark = SCHEMES["vllm gumbel"]
    for name, corpus in texts.items():
        kept = [mark_windows([one], mark, vocab_size=VOCAB) for one in corpus[:200]]
        contexts = np.concatenate([one.context_ids for one in kept])
        tokens = np.concatenate([one.token_ids for one in kept])
        every = Windows(contexts, tokens, np.ones(len(tokens), dtype=np.int64))
        rng = np.random.default_rng(12)
        sums = [
            float(mark.with_key(rng.bytes(32)).values(every, VOCAB).sum()) for _ in range(n_decoys)
        ]
        p = np.array([gamma_upper_tail(total, len(tokens)).p_value for total in sums])
        print(f"{'vllm gumbel':24s} {name:10s} {rejections(p)}   {len(tokens):5d}", flush=True)


def theirs(texts: Texts, n_keys: int) -> None:
    """Ask transformers' own detector about the same corpora, each joined to one passage."""
    import torch
    from transformers import GPT2Config, WatermarkDetector, WatermarkingConfig

    print(f"\n4. transformers' WatermarkDetector, {n_keys} random keys, same rates")
    config = GPT2Config(vocab_size=VOCAB, bos_token_id=VOCAB - 1, eos_token_id=VOCAB - 1)
    for seeding, width in (("lefthash", 1), ("lefthash", 4), ("selfhash", 4)):
        for name, corpus in texts.items():
            ids = np.concatenate([np.asarray(one.token_ids)[one.n_prompt :] for one in corpus])
            passage = torch.tensor(ids[None, :4000])
            for once in (False, True):
                rng = np.random.default_rng(13)
                p = []
                for _ in range(n_keys):
                    marking = WatermarkingConfig(
                        hashing_key=int(rng.integers(1, 2**32)), seeding_scheme=seeding,
                        context_width=width,
                    )  # fmt: skip
                    detector = WatermarkDetector(config, "cpu", marking, once, 100_000)
                    p.append(float(detector(passage, return_dict=True).p_value[0]))
                label = f"{seeding} {width} {'once' if once else 'all'}"
                print(f"{label:24s} {name:10s} {rejections(np.array(p))}", flush=True)


def far_tails() -> None:
    """Compare tails with exact whole-number sums, and normal approximations with both."""
    print("\n1. far tail: largest error of log10 p against exact sums")
    rng = np.random.default_rng(14)
    weights = rng.integers(1, 16, 300)
    exact = _exact_coins(weights.tolist())
    worst = 0.0
    seen: list[tuple[float, float]] = []
    terms = [bernoulli_term(int(w), 0.25, 1) for w in weights]
    for total in np.linspace(weights.sum() * 0.25, weights.sum(), 40).astype(int):
        ours = lattice_upper_tail(int(total), terms).log10_p
        worst = max(worst, abs(ours - exact(int(total))))
        z = (total - 0.25 * weights.sum()) / math.sqrt(0.1875 * (weights**2).sum())
        seen.append((ours, _normal_log10(z)))
    print(f"weighted coins: {worst:.1e} down to log10 p = {min(seen)[0]:.1f}")
    worst = max(abs(ours - truth) for ours, truth in _two_exponentials())
    print(f"two kinds of exponentials: {worst:.1e}")
    print("a normal approximation's log10 p where the exact one is")
    for target in (-2, -4, -6, -10, -20, -50, -100):
        ours, normal = min(seen, key=lambda pair: abs(pair[0] - target))
        print(f"  {ours:8.2f}: {normal:8.2f}")
    print("vLLM's dual-key approximation (one gamma of equal variance), 1,000 tokens, alpha 0.1:")
    variance = 0.9**2 + 0.1**2
    for total in (1100.0, 1150.0, 1200.0, 1300.0, 1500.0):
        ours = exponential_upper_tail(total, np.array([0.9, 0.1]), [1000, 1000]).log10_p
        match = gamma_upper_tail(total / variance, 1000 / variance).log10_p
        print(f"  exact {ours:8.2f}, theirs {match:8.2f}")


def _exact_coins(weights: Sequence[int]) -> Callable[[int], float]:
    """Count outcomes of coins at 1/4 with whole-number weights in whole numbers."""
    ways = [1]
    for weight in weights:
        longer = [3 * way for way in ways] + [0] * weight
        for i, way in enumerate(ways):
            longer[i + weight] += way
        ways = longer

    def log10_tail(total: int) -> float:
        share = Fraction(sum(ways[total:]), 4 ** len(weights))
        return _log10(share.numerator) - _log10(share.denominator)

    return log10_tail


def _log10(number: int) -> float:
    shift = max(number.bit_length() - 60, 0)
    return math.log10(number >> shift) + shift * math.log10(2)


def _two_exponentials() -> list[tuple[float, float]]:
    """Pair our tail of 12 exponentials of weight 1 and 12 of 1/2 with the closed form."""
    pairs = []
    for total in (20, 40, 80, 200, 700):
        ours = exponential_upper_tail(float(total), np.array([1.0, 0.5]), [12, 12]).log10_p
        pairs.append((ours, _closed_form(total)))
    return pairs


def _closed_form(total: int) -> float:
    """Expand 1 / ((1 - z)(1 - z / 2)) ** 12 into partial fractions, in fractions."""
    first, second = Fraction(0), Fraction(0)
    for j in range(12):
        ways = math.comb(11 + j, j)
        # Coefficients of (1 - z) ** -(12 - j) and (1 - z / 2) ** -(12 - j).
        first += ways * Fraction((-1) ** j) * Fraction(2) ** 12 * _poisson(12 - j, Fraction(total))
        second += (
            ways * Fraction((-1) ** 12) * Fraction(2) ** j
            * _poisson(12 - j, Fraction(2 * total)) * _exp_ratio(total)
        )  # fmt: skip
    share = first + second
    return _log10(share.numerator) - _log10(share.denominator) - total / math.log(10)


def _poisson(shape: int, level: Fraction) -> Fraction:
    return sum((level**k / math.factorial(k) for k in range(shape)), Fraction(0))


def _exp_ratio(total: int) -> Fraction:
    """exp(-total): what the second kind falls by beside the first."""
    return Fraction(math.exp(-total)) if total < 700 else Fraction(0)


def _normal_log10(z: float) -> float:
    from scipy import special

    return float(special.log_ndtr(-z)) / math.log(10)


def marked(texts: Texts, n_tokens: int) -> None:
    """Mark samples of a bigram model of ordinary text; score them flat and by entropy."""
    print(f"\n5. marked text, {n_tokens} tokens of a bigram model: log10 p (flat, by entropy)")
    counts = np.full((VOCAB, VOCAB), 0.002)
    for one in texts["ordinary"]:
        ids = np.asarray(one.token_ids)
        np.add.at(counts, (ids[:-1], ids[1:]), 1.0)
    chances = counts / counts.sum(axis=1, keepdims=True)
    for scheme, mark in SCHEMES.items():
        sequence = _sample(np.log(chances), mark, n_tokens)
        windows = mark_windows([sequence], mark, vocab_size=VOCAB)
        flat = mark.score(windows, VOCAB)
        if mark.context_width == 0:
            continue
        last = windows.context_ids[:, -1]
        known = chances[np.maximum(last, 0), windows.token_ids]
        lean = mark.score(windows, VOCAB, weights=entropy_weights(mark.null, known))
        print(f"{scheme:24s} {flat.log10_p:9.1f} {lean.log10_p:9.1f}   {flat.null}", flush=True)


def _sample(logs: Floats, mark: Mark, n_tokens: int) -> TokenSequence:
    rng = np.random.default_rng(15)
    ids = [int(rng.integers(VOCAB))]
    filler = [mark.pad if mark.pad is not None else 0] * mark.context_width
    seen: set[tuple[int, ...]] = set()
    for _ in range(n_tokens):
        answered = filler + ids[1:] if mark.pad is not None else filler + ids
        context = tuple(answered[len(answered) - mark.context_width :])
        scores = logs[ids[-1]][None, :]
        if context not in seen or mark.null.kind == "bernoulli":
            scores = mark.embed([context], scores)
        seen.add(context)
        shares = np.exp(scores[0] - scores[0].max())
        ids.append(int(rng.choice(VOCAB, p=shares / shares.sum())))
    return TokenSequence(ids, n_prompt=1)


def main() -> None:
    """Run every part and keep the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--decoys", type=int, default=10_000)
    parser.add_argument("--others", type=int, help="decoys on text without a template")
    parser.add_argument("--theirs", type=int, default=300)
    parser.add_argument("--windows", type=int, default=800)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    texts = innocent_texts(asked.work)
    far_tails()
    others = asked.decoys if asked.others is None else asked.others
    n_decoys = {name: asked.decoys if name == "templated" else others for name in texts}
    found: dict[str, Any] = calibrate(texts, n_decoys, asked.windows)
    (asked.work / "calibration.json").write_text(json.dumps(found, indent=1))
    repeated_per_document(texts, min(asked.decoys, 1000))
    theirs(texts, asked.theirs)
    marked(texts, 1000)


if __name__ == "__main__":
    main()
