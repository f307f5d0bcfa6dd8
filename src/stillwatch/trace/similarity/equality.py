"""Is an endpoint literally my model? A two-sample test on samples of answers.

Both are asked the same questions several times. Per question the unbiased squared maximum mean
discrepancy of the two sets of samples is computed; its sum over questions is compared with what
random exchanges of samples between the two sets give. Under H0 ("both draw answers to a question
from the same distribution") every exchange is as likely as what was seen: p is exact.

A small p says that the endpoint is NOT my model (or not with my sampling settings). A large p says
that it cannot be told from mine by so many samples; what that is worth is seen from reference
models under the very same test. It says nothing about learning: a student is another model.

Source: Gao et al. 2024 (arXiv 2410.20247); the permutation by matrices and the planning are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stillwatch.errors import reject
from stillwatch.stats.pvalues import permutation_p
from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.sample_kernels import Kernel, gram_kernel

Floats = NDArray[np.float64]

#: A reference below this is told apart.
_LEVEL = 0.01
#: Chance of telling it apart that `questions_needed` plans for.
_POWER = 0.9


class Apart(NamedTuple):
    """How far one model's answers are from mine.

    Attributes:
        p_value: exact permutation p-value of "the same distribution"; small = another model.
        discrepancy: mean squared maximum mean discrepancy of a question, about 0 for equals.
        z: discrepancy in standard deviations of the exchanges.
        n_questions: questions compared (count).
        n_samples: samples compared, both sides (count).
    """

    p_value: float
    discrepancy: float
    z: float
    n_questions: int
    n_samples: int


@dataclass(frozen=True)
class Equality:
    """Whether an endpoint can be told from my model.

    Attributes:
        apart: the endpoint against mine.
        references: other models against mine, by name.
        level: p-value below which two are told apart.
    """

    apart: Apart
    references: Mapping[str, Apart]
    level: float = _LEVEL

    @property
    def told_apart(self) -> int:
        """References that the same test tells from mine (count)."""
        return sum(one.p_value <= self.level for one in self.references.values())

    @property
    def is_indistinguishable(self) -> bool:
        """The endpoint is not told from mine, and every reference is (at least one was tried)."""
        enough = bool(self.references) and self.told_apart == len(self.references)
        return enough and self.apart.p_value > self.level

    @property
    def closer(self) -> int:
        """References whose answers are at least as near to mine as the endpoint's (count)."""
        return sum(one.z <= self.apart.z for one in self.references.values())

    @property
    def questions_needed(self) -> int | None:
        """Questions that would tell every reference from mine nine times in ten.

        None without references, or where one of them shows no difference at all.
        """
        if not self.references:
            return None
        nearest = min(self.references.values(), key=lambda one: one.z / math.sqrt(one.n_questions))
        if nearest.z <= 0:
            return None
        wanted = float(special.ndtri(1 - self.level) + special.ndtri(_POWER))
        return math.ceil(nearest.n_questions * (wanted / nearest.z) ** 2)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain data.

        Returns:
            What `msgspec` or `json` can write.
        """
        return {
            **asdict(self),
            "apart": self.apart._asdict(),
            "references": {name: one._asdict() for name, one in self.references.items()},
            "told_apart": self.told_apart,
            "is_indistinguishable": self.is_indistinguishable,
            "questions_needed": self.questions_needed,
        }


def compare_endpoint(
    mine: Sequence[SuspectOutput],
    endpoint: Sequence[SuspectOutput],
    *,
    rng: np.random.Generator,
    references: Mapping[str, Sequence[SuspectOutput]] | None = None,
    kernel: Kernel = gram_kernel,
    n_exchanges: int = 999,
) -> Equality:
    """Test whether an endpoint answers as my model does, and whether others could be told from it.

    Args:
        mine: several samples of my model's answers to each question, at the endpoint's settings.
        endpoint: the same of the endpoint.
        rng: exchanges samples.
        references: the same of other models, at least one to give a large p-value a meaning.
        kernel: how alike two answers are: `gram_kernel` or `hamming_kernel`.
        n_exchanges: random exchanges (count, at least 19).

    Returns:
        The endpoint and the references against mine.

    Raises:
        InvalidInputError: no question has two samples of each, or there are too few exchanges.
    """
    if n_exchanges < 19:
        reject("trace.compare_endpoint", "n_exchanges", "at least 19", got=n_exchanges)
    own = _by_question(mine)
    others = {name: _by_question(outputs) for name, outputs in (references or {}).items()}
    return Equality(
        _apart("the endpoint", own, _by_question(endpoint), kernel=kernel,
               rng=rng, n_exchanges=n_exchanges),
        {
            name: _apart(name, own, held, kernel=kernel, rng=rng, n_exchanges=n_exchanges)
            for name, held in others.items()
        },
    )  # fmt: skip


def squared_discrepancies(kernel: Floats, is_first: NDArray[np.bool_]) -> Floats:
    """Compute unbiased squared maximum mean discrepancies of many splits of the same samples.

    Args:
        kernel: similarities of all samples, shape (n, n).
        is_first: which samples are of the first set, shape (n_splits, n); at least two of each.

    Returns:
        One a split, shape (n_splits,); about 0 where both sets are alike, can be negative.
    Source: Gretton et al. 2012, equation 3.
    """
    off = kernel - np.diag(np.diag(kernel))
    z = is_first.astype(np.float64)
    rows, total = off.sum(axis=1), float(off.sum())
    n = z.sum(axis=1)
    m = z.shape[1] - n
    first = np.einsum("si,si->s", z @ off, z)
    crossed = z @ rows - first
    second = total - 2 * crossed - first
    return np.asarray(first / (n * (n - 1)) + second / (m * (m - 1)) - 2 * crossed / (n * m))


def _by_question(outputs: Sequence[SuspectOutput]) -> dict[str, list[str]]:
    held: dict[str, list[str]] = {}
    for one in outputs:
        held.setdefault(one.question, []).append(one.answer)
    return held


def _apart(
    name: str,
    mine: Mapping[str, list[str]],
    other: Mapping[str, list[str]],
    *,
    kernel: Kernel,
    rng: np.random.Generator,
    n_exchanges: int,
) -> Apart:
    total = np.zeros(n_exchanges + 1)
    n_questions = n_samples = 0
    for question, first in mine.items():
        second = other.get(question, [])
        if min(len(first), len(second)) < 2:
            continue
        n = len(first) + len(second)
        order = rng.random((n_exchanges + 1, n)).argsort(axis=1)
        order[0] = np.arange(n)
        total += squared_discrepancies(kernel([*first, *second]), order < len(first))
        n_questions += 1
        n_samples += n
    if not n_questions:
        rule = "asked at least one question twice that mine was asked twice"
        reject("trace.compare_endpoint", name, rule, got=f"{len(other)} questions")
    # A difference in the last digits is rounding, and must count against the endpoint.
    p_value = permutation_p(float(total[0]), np.where(
        np.isclose(total[1:], total[0], rtol=1e-9, atol=1e-12), total[0], total[1:]
    ))  # fmt: skip
    spread = float(total[1:].std())
    z = float(total[0] - total[1:].mean()) / spread if spread > 1e-12 else 0.0
    return Apart(p_value, float(total[0]) / n_questions, z, n_questions, n_samples)
