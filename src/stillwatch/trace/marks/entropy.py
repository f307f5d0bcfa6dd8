"""How much mark a token can carry, given how sure the model was of it.

A token that had probability 1 was not chosen by the key. The expected value of a marked token
follows from its probability alone, and so do the weights of the sum that tells most. Probabilities
must come from a model that does not know the key, for example the teacher without its mark.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from stillwatch.errors import reject
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.protocol import Floats


def expected_gumbel_value(probabilities: npt.ArrayLike) -> Floats:
    """Expect -ln(1 - u) of a token that a Gumbel mark chose at probability p: the sum over k of
    1 / (k (1 + k p)), which is the harmonic number of 1 / p.

    Args:
        probabilities: of the tokens before the mark, in (0, 1].

    Returns:
        The same shape; 1 at p = 1, where the key decided nothing.

    Example:
        >>> expected_gumbel_value([1.0, 0.5, 0.1]).round(3).tolist()
        [1.0, 1.5, 2.929]
    """  # noqa: D205 - the formula belongs to the sentence
    p = _checked(probabilities)
    return np.asarray(special.digamma(1 / p + 1) + np.euler_gamma)


def expected_green_value(
    probabilities: npt.ArrayLike, *, gamma: float = 0.25, delta: float = 2.0
) -> Floats:
    """Expect how often a token sampled under a green list's bias is green.

    The other tokens' green mass is taken at its mean, gamma.

    Args:
        probabilities: of the tokens before the mark, in (0, 1].
        gamma: share of green tokens.
        delta: added to their logits (nats).

    Returns:
        The same shape; gamma at p = 1.

    Example:
        >>> expected_green_value([1.0, 0.5, 0.01]).round(3).tolist()
        [0.25, 0.47, 0.706]
    """
    p = _checked(probabilities)
    lift = np.expm1(delta)
    if_green = gamma * (1 + lift) / (1 + lift * (gamma * (1 - p) + p))
    if_red = (1 - gamma) / (1 + lift * gamma * (1 - p))
    return np.asarray(if_green / (if_green + if_red))


def expected_tournament_value(probabilities: npt.ArrayLike) -> Floats:
    """Expect the first layer's bit of a token that a tournament chose.

    Args:
        probabilities: of the tokens before the mark, in (0, 1].

    Returns:
        The same shape: 1/2 + (1 - p) / 4.

    Example:
        >>> expected_tournament_value([1.0, 0.0001]).round(2).tolist()
        [0.5, 0.75]
    """
    return 0.5 + (1 - _checked(probabilities)) / 4


def entropy_weights(null: Null, probabilities: npt.ArrayLike, *, delta: float = 2.0) -> Floats:
    """Give the weights that make a sum of values tell most.

    They are the slopes of the log-likelihood ratio between a value with the expectation above and
    the null: the log odds ratio for green lists and layers, 1 - 1 / expectation for exponentials.
    Where the mark is faint both are proportional to the expected shift.

    Args:
        null: the mark's.
        probabilities: shape (n,): what a model without the key gave each token, in (0, 1].
        delta: a green list's bias (nats); not used by other marks.

    Returns:
        Shape (n,), 0..1, for `Mark.score(..., weights=...)`.
    """
    if null.kind == "bernoulli":
        expected = expected_green_value(probabilities, gamma=null.mean, delta=delta)
        slopes = special.logit(expected) - special.logit(null.mean)
    elif null.kind == "layers":
        slopes = special.logit(expected_tournament_value(probabilities))
    else:
        slopes = 1 - 1 / expected_gumbel_value(probabilities)
    slopes = np.maximum(slopes, 0.0)
    top = float(slopes.max(initial=0.0))
    return np.asarray(slopes / top if top else slopes)


def _checked(probabilities: npt.ArrayLike) -> Floats:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.size and not (p.min() > 0 and p.max() <= 1):
        got = f"{p.min()}..{p.max()}"
        reject("trace.marks.entropy", "probabilities", "above 0 and at most 1", got=got)
    return p
