"""Who taught whom, on public models whose teachers are known.

    python bench/trace_lineage.py --data DIR [--truth FILE ...] [--speed]

DIR holds the collections (lineage/). A feature is chosen on one collection and reported on the
others: it is the one under which the real teacher comes first in most resamples of the questions,
averaged over teachers. Beside it stand the nearest neighbour by word counts, and guessing the
teacher that the other students have. `--speed` measures 800 questions to 30 models instead.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lineages.collection import SHIPPED, Collection, read_collection
from lineages.score import (
    Place,
    accuse_all,
    commonest,
    first_share,
    macro,
    mean_share,
    place_students,
)
from stillwatch.trace.similarity.answer_table import AnswerTable
from stillwatch.trace.similarity.kin import Panel
from stillwatch.trace.similarity.lineage import DEFAULT_FEATURES, find_teacher
from stillwatch.trace.similarity.ngrams import Feature, Similarities, name_of, similarities

WORD = {width: Feature("word", width) for width in (1, 2, 3, 4)}
OPENING, BODY = Feature("char", 4, 100), Feature("char", 4, 600)
#: What is tried: single features, and a few together.
TRIED: tuple[tuple[Feature, ...], ...] = (
    *((feature,) for feature in WORD.values()),
    (OPENING,), (BODY,), (Feature("char", 3),), (Feature("frame", 3),),
    (WORD[1], WORD[2]), (WORD[1], OPENING), (WORD[1], WORD[2], BODY), DEFAULT_FEATURES,
    (*WORD.values(), OPENING, BODY),
)  # fmt: skip


def main() -> None:
    """Print the tables."""
    options = _options()
    if options.speed:
        measure_speed()
        return
    shipped = [Path(__file__).parent / "lineages" / f"{name}.toml" for name in SHIPPED]
    collections = [read_collection(options.data, path) for path in (*shipped, *options.truth)]
    compared = [[similarities(c.table, tried) for tried in TRIED] for c in collections]
    chances = np.array([[_chance(c, s) for s in held] for c, held in zip(collections, compared,
                                                                         strict=True)])  # fmt: skip
    print("how surely the real teacher comes first, by what is compared")
    for number, tried in enumerate(TRIED):
        print(f"  {name_of(tried):<60}", *(f"{value:.2f}" for value in chances[:, number]))
    for number, collection in enumerate(collections):
        rest = np.delete(chances, number, axis=0).mean(axis=0)
        for told, best in (("chosen elsewhere", int(rest.argmax())),
                           ("the default", TRIED.index(DEFAULT_FEATURES))):  # fmt: skip
            print(f"\n{collection.name}: {name_of(TRIED[best])} ({told})")
            report(collection, compared[number][best])


def report(collection: Collection, compared: Similarities) -> None:
    """Print one collection under one feature.

    Args:
        collection: models and answers.
        compared: similarities of its answers.
    """
    for served in (True, False):
        for dated in (False, True):
            places = place_students(collection, compared, served=served, dated=dated)
            among = "models that could be asked" if served else "all models"
            print(f"  among {among}{', dated' if dated else ''}:", _shares(places))
            if not dated:
                for p in places:
                    print(f"    {p.student} <- {p.teacher}: {p.rank} of {p.n_candidates} (nearest "
                          f"neighbour {p.raw_rank}), {p.closer} of {p.references} references as "
                          f"close, first in {p.share:.0%} of resamples")  # fmt: skip
    for n_questions in (10, 20, 40, 80, 160):
        if n_questions < len(collection.table.questions):
            share = first_share(collection, compared, n_questions=n_questions)
            print(f"  top-1 with {n_questions} questions: {share:.2f}")
    told = accuse_all(collection, compared)
    print(f"  pairs without lineage: {told.closest} of {told.pairs} closer than every reference "
          f"({told.expected:.1f} expected), AUC {told.auc:.2f}, real pairs above all of them "
          f"{told.found_at_none:.2f}")  # fmt: skip


def measure_speed(n_questions: int = 800, n_models: int = 30) -> None:
    """Time the whole of a large panel: every model a suspect, all others candidates.

    Args:
        n_questions: rows.
        n_models: columns.
    """
    rng = np.random.default_rng(0)
    words = np.array([f"w{number:x}" for number in range(20_000)])
    chance = 1 / np.arange(1, len(words) + 1)
    chance /= chance.sum()
    answers = tuple(
        tuple(" ".join(row) for row in rng.choice(words, (n_models, 300), p=chance))
        for _ in range(n_questions)
    )
    models = tuple(f"m{number}" for number in range(n_models))
    table = AnswerTable(models, tuple(f"q{n}" for n in range(n_questions)), answers)
    start, wall = time.process_time(), time.monotonic()
    compared = similarities(table, DEFAULT_FEATURES)
    for model in models:
        others = tuple(other for other in models if other != model)
        find_teacher(table, Panel(model, others, others), rng=rng, compared=compared, n_draws=200)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = sum(len(text) for row in answers for text in row) / 1e6
    print(f"{n_questions} questions x {n_models} models, {size:.0f} MB of answers, each model a "
          f"suspect: {time.process_time() - start:.1f} CPU-s, {time.monotonic() - wall:.1f} s, "
          f"{peak:.0f} MB")  # fmt: skip


def _chance(collection: Collection, compared: Similarities) -> float:
    return mean_share(place_students(collection, compared, served=True, dated=False))


def _shares(places: Sequence[Place]) -> str:
    held = list(places)
    first = {p.student: p.rank == 1 for p in held}
    third = {p.student: p.rank <= 3 for p in held}
    raw = {p.student: p.raw_rank == 1 for p in held}
    guess = commonest(held)
    return (
        f"top-1 {_mean(first):.2f} (macro {macro(held, first):.2f}), top-3 {_mean(third):.2f}; "
        f"nearest neighbour {_mean(raw):.2f} ({macro(held, raw):.2f}); always the commonest "
        f"{_mean(guess):.2f} ({macro(held, guess):.2f}); by chance "
        f"{np.mean([1 / p.n_candidates for p in held]):.2f}; students {len(held)}"
    )


def _mean(right: dict[str, bool]) -> float:
    return sum(right.values()) / len(right)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--truth", type=Path, nargs="*", default=[], help="further collections")
    parser.add_argument("--speed", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
