"""What a window's value is drawn from when the text was written without the key."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Null(NamedTuple):
    """The distribution of one value under "the text does not know the key".

    Attributes:
        kind: "bernoulli": 1 with chance `mean`, else 0. "exponential": density exp(-x).
            "layers": the mean of independent layers, each 1 with chance 1/2, weighted by `parts`.
            "mixture": sum of `parts`, each times an independent exponential.
        mean: its expectation.
        parts: the weights of layers or keys, one each; (1.0,) for a single draw.
    """

    kind: Literal["bernoulli", "exponential", "layers", "mixture"]
    mean: float
    parts: tuple[float, ...] = (1.0,)
