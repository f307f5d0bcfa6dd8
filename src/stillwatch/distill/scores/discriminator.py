"""Teacher or student? How well a plain text classifier tells their answers apart.

A student may score like its teacher and still not sound like it, or sound like it and know nothing
("the false promise", arXiv 2305.15717). The area under the curve of this classifier says how far
the wording was taken: 0.5 = not to be told apart. It is a lower bound: a better classifier may tell
more. Both answers to a question, and all questions of a cluster, are in the same fold, so that the
classifier never sees the topic that it is tested on.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from stillwatch.errors import reject
from stillwatch.stats.intervals import Estimate
from stillwatch.stats.ranking import paired_auc

Floats = NDArray[np.float64]

#: Hashed n-grams of characters, of these lengths, into so many places each.
_LENGTHS, _PLACES = (1, 2, 3, 4), 2**15
_MAX_BYTES = 4000
#: Weight of the squared coefficients beside the mean loss; rows have length 1 an n-gram length.
_RIDGE = 1e-4
_STEPS = 60
#: Each pair of clusters counts twice, once to teach and once to test in either direction; taking
#: the folds as independent held 0.5 in 89 % of 500 worlds of two samples of one model.
_FOLDS_DEPEND = 2.0


def tell_apart(
    teacher: Sequence[str],
    student: Sequence[str],
    clusters: Sequence[str],
    *,
    rng: np.random.Generator,
    n_folds: int = 5,
    level: float = 0.95,
) -> Estimate:
    """Train and test a teacher-or-student classifier by cross-validation.

    Args:
        teacher: the teacher's answers.
        student: the student's, to the same questions in the same order.
        clusters: what each question shares with others.
        rng: deals the clusters to folds.
        n_folds: folds (count, >= 2); fewer where there are fewer clusters.
        level: coverage of the interval.

    Returns:
        Area under the curve with its interval: 0.5 not told apart, 1 always; all of 0..1 with
        fewer than 4 clusters.

    Raises:
        InvalidInputError: not one answer of each a question, or fewer than 2 folds.

    Example:
        >>> rng, each = np.random.default_rng(0), [str(n) for n in range(40)]
        >>> sober, merry = [f"It is {n}." for n in each], [f"Sure! It's {n}!" for n in each]
        >>> [tell_apart(sober, other, each, rng=rng).value for other in (merry, sober)]
        [1.0, 0.5]
    """
    _check(len(teacher), len(student), len(clusters), n_folds=n_folds)
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
    n_clusters = int(numbers.max()) + 1
    if n_clusters < 4:
        return Estimate(0.5, 0.0, 1.0)
    dealt = rng.permutation(n_clusters) % min(n_folds, n_clusters // 2)
    folds = dealt[numbers]
    scores = _scores(_features([*teacher, *student]), folds)
    return paired_auc(
        scores[: len(teacher)],
        scores[len(teacher) :],
        clusters=numbers,
        folds=folds,
        level=level,
        inflation=_FOLDS_DEPEND,
    )


def _check(n_teacher: int, n_student: int, n_clusters: int, *, n_folds: int) -> None:
    if not n_teacher or not n_teacher == n_student == n_clusters:
        rule = f"one a question ({n_teacher}), at least 1"
        reject("tell_apart", "student and clusters", rule, got=(n_student, n_clusters))
    if n_folds < 2:
        reject("tell_apart", "n_folds", "at least 2", got=n_folds)


def _scores(rows: Any, folds: NDArray[np.int64]) -> Floats:
    """Score each text by a classifier of the other folds; the teacher's texts come first."""
    scores = np.zeros(rows.shape[0])
    both = np.concatenate([folds, folds])
    is_student = np.repeat([False, True], folds.size)
    for fold in np.unique(folds):
        own = both == fold
        scores[own] = rows[own] @ _fit(rows[~own], is_student[~own])
    # Equal texts have equal scores up to rounding, which must not break the tie.
    return np.asarray(np.round(scores, 9), dtype=np.float64)


def _features(texts: Sequence[str]) -> Any:
    """Count hashed character n-grams: sparse, one row a text, each length of n-gram scaled to 1."""
    columns, rows, values = [], [], []
    for number, text in enumerate(texts):
        data = np.frombuffer(text.encode()[:_MAX_BYTES], dtype=np.uint8).astype(np.uint64)
        for family, length in enumerate(_LENGTHS):
            if data.size < length:
                continue
            places, counts = np.unique(_hashes(data, length) % _PLACES, return_counts=True)
            damped = 1.0 + np.log(counts)
            columns.append(places.astype(np.int64) + family * _PLACES)
            rows.append(np.full(places.size, number))
            values.append(damped / np.linalg.norm(damped))
    shape = (len(texts), len(_LENGTHS) * _PLACES)
    if not values:
        return sparse.csr_matrix(shape)
    where = (np.concatenate(rows), np.concatenate(columns))
    table = sparse.csr_matrix((np.concatenate(values), where), shape=shape)
    seen = np.flatnonzero(np.bincount(table.indices, minlength=shape[1]) > 1)
    return table[:, seen]


def _hashes(data: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    value = np.full(data.size - length + 1, zlib.crc32(bytes([length])), dtype=np.uint64)
    for at in range(length):
        value = (value ^ data[at : data.size - length + 1 + at]) * np.uint64(0x100000001B3)
    return value ^ (value >> np.uint64(29))


def _fit(rows: Any, is_student: NDArray[np.bool_]) -> Floats:
    """Fit logistic regression without an intercept: the classes are as many in every fold."""
    sign = np.where(is_student, 1.0, -1.0)
    columns = rows.T.tocsr()

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = sign * (rows @ weights)
        value = np.logaddexp(0.0, -margin).mean() + _RIDGE / 2 * float(weights @ weights)
        slope = -sign / (1.0 + np.exp(np.clip(margin, -500, 500))) / sign.size
        return float(value), np.asarray(columns @ slope + _RIDGE * weights)

    start = np.zeros(rows.shape[1])
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(found.x, dtype=np.float64)
