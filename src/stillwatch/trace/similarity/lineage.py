"""Behavioural lineage: whose answers is a suspect closer to than independent models are?

For each question the answers' similarities (`ngrams`) are double-centred over the panel, so that
what everybody says to this question falls out, and turned into cosines. Averaged over questions:

    S(p, t)  cosine of model p to candidate t
    D(p, t)  S(p, t) less the mean of S(., t) over all other models that are no students of t
    C(p, t)  D(p, t) less the mean of D(p, .) over candidates of other families

The suspect and the references are treated alike throughout: were the suspect one more independent
model, every rank of its C among the references' would be as likely as any other. That, "k of R
references are as close", is all that similarity can prove. More questions make it no stronger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import reject
from stillwatch.trace.similarity.answer_table import AnswerTable
from stillwatch.trace.similarity.kin import Panel
from stillwatch.trace.similarity.ngrams import Feature, Similarities, name_of, similarities

Floats = NDArray[np.float64]

#: Chosen on one public collection and reported on another (docs/lineage.md, "Which feature").
DEFAULT_FEATURES = (Feature("word", 1), Feature("word", 2), Feature("char", 4, 100))
#: Questions that both must have answered before a similarity is believed.
_FEWEST_QUESTIONS = 5
#: Questions centred at a time: a few hundred models still fit into memory.
_QUESTIONS_AT_ONCE = 64


@dataclass(frozen=True)
class Kinship:
    """How close the suspect is to one candidate.

    Attributes:
        candidate: the possible teacher.
        similarity: S, mean centred cosine, -1..1.
        excess: D, S above what other models have to the same candidate.
        contrast: C, D above what the suspect has to other families; the statistic of the rank.
        closer: references whose contrast is at least as high (count, the k of "k of R").
        references: references compared (count, R).
        closer_matched: the same among references with the suspect's base model and age.
        matched: how many of those there are.
        possible: False where the candidate was released after the suspect.
        same_base: both are known to come from one base model, which alone makes them alike.
    """

    candidate: str
    similarity: float
    excess: float
    contrast: float
    closer: int
    references: int
    closer_matched: int
    matched: int
    possible: bool
    same_base: bool

    @property
    def smallest_level(self) -> float:
        """(1 + k) / (1 + R): the level at which the rank is unusual; never a proof."""
        return (1 + self.closer) / (1 + self.references)


@dataclass(frozen=True)
class Lineage:
    """Candidates in order of how much they look like the suspect's teacher.

    Attributes:
        suspect: the model in question.
        features: name of what was compared.
        n_questions: questions of the table (count).
        kinships: possible candidates first, each group by excess, highest first.
        first_stays: share of resamples of the questions in which the first stays first, 0..1; says
            how many questions are enough, nothing about other models.
        excess_low: 2.5 % quantile over those resamples of the first one's excess.
        excess_high: 97.5 % quantile.
    """

    suspect: str
    features: str
    n_questions: int
    kinships: tuple[Kinship, ...]
    first_stays: float
    excess_low: float
    excess_high: float

    @property
    def first(self) -> Kinship:
        """The candidate that looks most like the teacher."""
        return self.kinships[0]

    def of(self, candidate: str) -> Kinship:
        """Look up one candidate.

        Args:
            candidate: its name.

        Returns:
            How close the suspect is to it.

        Raises:
            InvalidInputError: it was no candidate.
        """
        found = {kinship.candidate: kinship for kinship in self.kinships}
        if candidate not in found:
            reject("trace.Lineage", "candidate", f"one of {', '.join(found)}", got=candidate)
        return found[candidate]

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain data.

        Returns:
            What `msgspec` or `json` can write.
        """
        return asdict(self)


def find_teacher(
    table: AnswerTable,
    panel: Panel,
    *,
    rng: np.random.Generator,
    features: Sequence[Feature] = DEFAULT_FEATURES,
    compared: Similarities | None = None,
    n_draws: int = 1000,
) -> Lineage:
    """Rank candidate teachers of a suspect, with independent models beside it.

    Args:
        table: answers of all models of the panel, and perhaps of others, which are left out.
        panel: suspect, candidates and references.
        rng: resamples the questions.
        features: what of the answers is compared; fix it beforehand.
        compared: `similarities(table, features)`, to compute it once for many panels.
        n_draws: resamples (count, at least 1).

    Returns:
        The candidates with excess, contrast and rank among the references.

    Raises:
        InvalidInputError: a model is missing in the table, no reference is left for a candidate,
            or the suspect shares fewer than 5 questions with a candidate.
    """
    if n_draws < 1:
        reject("trace.find_teacher", "n_draws", "at least 1", got=n_draws)
    if compared is None:
        compared = similarities(table, features)
    per_question = _panel_cosines(table, panel, compared)
    _check_counts(per_question[:, 0], panel)
    mean = _mean_over_questions(per_question, np.ones(len(per_question)))
    excess = excess_over_nulls(mean)
    contrast = contrast_of(excess, _other_family(panel))
    kinships = [
        _kinship(panel, number, mean=mean[0, number], excess=excess[:, number],
                 contrast=contrast[:, number])
        for number in range(len(panel.candidates))
    ]  # fmt: skip
    kinships.sort(key=lambda k: (not k.possible, -k.excess))
    stays, low, high = _resample(per_question, panel, kinships[0], rng=rng, n_draws=n_draws)
    return Lineage(
        panel.suspect, name_of(features), len(table.questions), tuple(kinships), stays, low, high
    )


def centred_cosines(compared: Similarities) -> Similarities:
    """Take out of each question what its answers have in common.

    Args:
        compared: shape (n_questions, n, n), NaN where a model gave no answer.

    Returns:
        Cosines around the answers' mean, same shape, NaN where a model gave none or stands in the
        mean itself.
    """
    present = ~np.isnan(np.einsum("qii->qi", compared))
    both = present[:, :, None] & present[:, None, :]
    gram = np.where(both, compared, 0.0).astype(np.float64)
    count = np.maximum(present.sum(axis=1), 1)[:, None]
    row = gram.sum(axis=2) / count
    grand = row.sum(axis=1) / count[:, 0]
    gram += grand[:, None, None] - row[:, :, None] - row[:, None, :]
    norms = np.sqrt(np.maximum(np.einsum("qii->qi", gram), 0.0))
    scale = norms[:, :, None] * norms[:, None, :]
    known = both & (scale > 1e-9)
    out = np.full(compared.shape, np.nan, dtype=np.float32)
    np.divide(gram, scale, out=out, where=known, casting="same_kind")
    return out


def excess_over_nulls(mean: Floats) -> Floats:
    """Subtract from each similarity the mean of all other models' to the same candidate.

    Args:
        mean: S, shape (..., n_models, n_candidates), NaN where a model is no null of a candidate.

    Returns:
        D, same shape; every column sums to zero, the suspect counted as any other.
    """
    known = ~np.isnan(mean)
    n = known.sum(axis=-2, keepdims=True)
    total = np.where(known, mean, 0.0).sum(axis=-2, keepdims=True)
    others = (total - mean) / np.maximum(n - 1, 1)
    return np.asarray(mean - others, dtype=np.float64)


def contrast_of(excess: Floats, other_family: NDArray[np.bool_]) -> Floats:
    """Subtract from each excess the model's mean excess to candidates of other families.

    Args:
        excess: D, shape (n_models, n_candidates), NaN where a model is no null of a candidate.
        other_family: shape (n_candidates, n_candidates).

    Returns:
        C, same shape; D itself where there is no other family.
    """
    known = ~np.isnan(excess)
    n = known.astype(np.float64) @ other_family
    total = np.where(known, excess, 0.0) @ other_family
    return np.asarray(excess - total / np.maximum(n, 1), dtype=np.float64)


def _panel_cosines(table: AnswerTable, panel: Panel, compared: Similarities) -> Similarities:
    """Cosines of suspect and references to candidates, shape (n_questions, 1 + R, n_candidates)."""
    places = np.array([table.place(model) for model in panel.models])
    columns = [panel.models.index(name) for name in panel.candidates]
    rows = 1 + len(panel.references)
    parts = []
    for first in range(0, len(compared), _QUESTIONS_AT_ONCE):
        block = compared[first : first + _QUESTIONS_AT_ONCE][:, places[:, None], places]
        parts.append(centred_cosines(block)[:, :rows][:, :, columns])
    out = np.concatenate(parts)
    out[:, ~_valid_pairs(panel)] = np.nan
    return out


def _valid_pairs(panel: Panel) -> NDArray[np.bool_]:
    rows = (panel.suspect, *panel.references)
    return np.array([[panel.is_null(m, t) or m == panel.suspect for t in panel.candidates]
                     for m in rows])  # fmt: skip


def _other_family(panel: Panel) -> NDArray[np.bool_]:
    families = np.array([panel.family(name) for name in panel.candidates])
    return np.asarray(families[:, None] != families[None, :])


def _mean_over_questions(per_question: Similarities, weights: Floats) -> Floats:
    """Average over questions; weights of shape (..., n_questions)."""
    known = ~np.isnan(per_question)
    flat = np.where(known, per_question, 0.0).reshape(len(per_question), -1)
    total = weights @ flat
    n = weights @ known.reshape(flat.shape).astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean = np.where(n > 0, total / np.where(n > 0, n, 1.0), np.nan)
    return np.asarray(mean.reshape(*weights.shape[:-1], *per_question.shape[1:]))


def _kinship(
    panel: Panel, number: int, *, mean: float, excess: Floats, contrast: Floats
) -> Kinship:
    candidate = panel.candidates[number]
    rivals = ~np.isnan(contrast[1:])
    matched = np.array([panel.is_matched(name) for name in panel.references], dtype=bool) & rivals
    if not rivals.any():
        reject(
            "trace.find_teacher",
            "references",
            f"models that are independent of {candidate}",
            got="none",
            hint="add models that cannot have learned from it; 19 are needed for 1 in 20",
        )
    closer = rivals & (np.nan_to_num(contrast[1:], nan=-np.inf) >= contrast[0])
    return Kinship(
        candidate=candidate,
        similarity=float(mean),
        excess=float(excess[0]),
        contrast=float(contrast[0]),
        closer=int(closer.sum()),
        references=int(rivals.sum()),
        closer_matched=int((closer & matched).sum()),
        matched=int(matched.sum()),
        possible=panel.is_possible(candidate),
        same_base=panel.has_same_base(candidate),
    )


def _resample(
    per_question: Similarities,
    panel: Panel,
    first: Kinship,
    *,
    rng: np.random.Generator,
    n_draws: int,
) -> tuple[float, float, float]:
    """Draw the questions again: how often does the first stay first, and where is its excess?"""
    n = len(per_question)
    weights = rng.multinomial(n, np.full(n, 1.0 / n), size=n_draws).astype(np.float64)
    excess = excess_over_nulls(_mean_over_questions(per_question, weights))[:, 0]
    open_to = [panel.is_possible(name) or not first.possible for name in panel.candidates]
    ranked = np.where(np.isnan(excess) | ~np.array(open_to), -np.inf, excess)
    place = panel.candidates.index(first.candidate)
    low, high = np.nanquantile(excess[:, place], [0.025, 0.975])
    return float(np.mean(ranked.argmax(axis=1) == place)), float(low), float(high)


def _check_counts(own: Similarities, panel: Panel) -> None:
    for number, candidate in enumerate(panel.candidates):
        n = int(np.count_nonzero(~np.isnan(own[:, number])))
        if n < _FEWEST_QUESTIONS:
            rule = f"asked at least {_FEWEST_QUESTIONS} questions that {candidate} answered too"
            reject("trace.find_teacher", panel.suspect, rule, got=n)
