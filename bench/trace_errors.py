"""Shared errors in a simulated exam: accusations among independent models, and copies found.

    python bench/trace_errors.py [--models 71] [--items 1000] [--seeds 2]

All ordered pairs of models of different families are tested, then copies, which took a share of one
model's answers; `stillwatch.trace.similarity.exam` says how the exam is drawn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stillwatch.stats.pvalues import binomial_upper_tail
from stillwatch.trace.similarity.answer_sheet import AnswerSheet, fit_smoothing
from stillwatch.trace.similarity.exam import Exam, sit_exam
from stillwatch.trace.similarity.shared_errors import SharedErrors, compare_errors, screen_errors

LEVELS = (0.1, 0.05, 0.01, 1e-6)


def main() -> None:
    """Print accusations and power."""
    options = _options()
    for families in (0, options.models // 5):
        for wrong_only in (True, False):
            held: list[SharedErrors] = []
            naive: list[float] = []
            agreed: list[float] = []
            start = time.process_time()
            for seed in range(options.seeds):
                exam = Exam(options.models, options.items, families)
                sheet = sit_exam(exam, rng=np.random.default_rng(seed))
                held += all_pairs(sheet, exam, wrong_only=wrong_only)
                if wrong_only:
                    for share, log10_p in by_chance(sheet, exam):
                        agreed.append(share)
                        naive.append(log10_p)
            what = "both wrong" if wrong_only else "all items"
            print(f"{families or 'no'} families, {what}: {len(held)} ordered pairs, "
                  f"{time.process_time() - start:.0f} CPU-s")  # fmt: skip
            if wrong_only:
                print(f"  agreement {np.mean(agreed):.3f}, 95 % {np.quantile(agreed, 0.95):.3f}")
                tell("chance 1/3", np.array(naive))
            tell("fitted", np.array([one.log10_model_p for one in held]))
            tell("fitted / scatter", np.array([one.log10_p for one in held]))
            print(f"  scatter {np.median([one.scatter for one in held]):.2f}, closer than every "
                  f"reference {np.mean([one.closer == 0 for one in held]):.4f} (expected "
                  f"{np.mean([1 / (1 + one.references) for one in held]):.4f})")  # fmt: skip
    print("copies of one model, 12 families, both wrong:")
    for adopted in (0.05, 0.1, 0.2, 0.3, 0.5):
        found = list(copies(adopted, options))
        print(f"  {adopted:.0%} adopted: median log10 p {np.median([f.log10_p for f in found]):.1f}"
              f", below 1e-6 {np.mean([f.log10_p < -6 for f in found]):.2f}, closer than every "
              f"reference {np.mean([f.closer == 0 for f in found]):.2f}")  # fmt: skip


def all_pairs(sheet: AnswerSheet, exam: Exam, *, wrong_only: bool) -> Iterator[SharedErrors]:
    """Test every ordered pair of models of different families.

    Args:
        sheet: who chose what.
        exam: its size.
        wrong_only: as `compare_errors`.

    Yields:
        What was found; references are the other models of other families than the first's.
    """
    smoothing = fit_smoothing(sheet, list(range(len(sheet.models))), wrong_only=wrong_only)
    for first, mine in enumerate(sheet.models):
        kin = exam.relatives(first)
        others = [name for number, name in enumerate(sheet.models) if number not in kin]
        yield from screen_errors(sheet, mine, others, wrong_only=wrong_only, smoothing=smoothing)


def by_chance(sheet: AnswerSheet, exam: Exam) -> Iterator[tuple[float, float]]:
    """Test pairs as if every wrong option were as tempting as any other.

    Args:
        sheet: who chose what.
        exam: its size.

    Yields:
        Agreement when both are wrong, and log10 p.
    """
    for first in range(len(sheet.models)):
        for second in range(first):
            if second in exam.relatives(first):
                continue
            a, b = sheet.choices[first], sheet.choices[second]
            both = (a != sheet.right) & (b != sheet.right)
            same, n = int(((a == b) & both).sum()), int(both.sum())
            yield same / n, binomial_upper_tail(same, n, 1 / 3).log10_p


def copies(adopted: float, options: argparse.Namespace) -> Iterator[SharedErrors]:
    """Test copies of model 0.

    Args:
        adopted: share of its answers that a copy took.
        options: sizes of the exam.

    Yields:
        What was found, ten copies a seed.
    """
    for seed in range(options.seeds):
        exam = Exam(options.models, options.items, 12, n_copies=10, adopted=adopted)
        sheet = sit_exam(exam, rng=np.random.default_rng(100 + seed))
        references = [f"m{n}" for n in range(options.models) if n not in exam.relatives(0)]
        smoothing = fit_smoothing(sheet, [sheet.place(n) for n in references], wrong_only=True)
        for copy in sheet.models[options.models :]:
            yield compare_errors(sheet, "m0", copy, references=references, smoothing=smoothing)


def tell(name: str, log10_p: NDArray[np.float64]) -> None:
    """Print how often p is at most each level.

    Args:
        name: of the test.
        log10_p: decimal logarithms.
    """
    shares = ", ".join(f"{level:g}: {np.mean(log10_p <= np.log10(level)):.4f}" for level in LEVELS)
    print(f"  {name}: share at or below {shares}; smallest log10 p {log10_p.min():.1f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=71)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
