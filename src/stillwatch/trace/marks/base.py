"""What schemes share beyond the protocol: scoring by draws, and choosing by Gumbel noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.trace.marks.protocol import Evidence, Floats, Mark
from stillwatch.trace.marks.scoring import distinct_draws, sum_evidence
from stillwatch.trace.radioactivity.windows import Ids, Windows, number_rows


class WindowScoring:
    """The default `draws` and `score`: every distinct window is a draw of its own."""

    def draws(self, windows: Windows, vocab_size: int) -> Ids:
        """Number the windows' draws.

        Args:
            windows: of this mark's width.
            vocab_size: size of the vocabulary.

        Returns:
            Shape (n,); equal numbers share one draw of the key.
        """
        return number_rows(np.column_stack([windows.context_ids, windows.token_ids]))

    def score(
        self: Mark, windows: Windows, vocab_size: int, *, weights: npt.ArrayLike | None = None
    ) -> Evidence:
        """Sum the values of distinct draws.

        Args:
            windows: of this mark's width.
            vocab_size: size of the vocabulary.
            weights: shape (n,), 0 or more, chosen without the key; None for equal weights.

        Returns:
            The sum and its tail.
        """
        values, draws = self.values(windows, vocab_size), self.draws(windows, vocab_size)
        return sum_evidence(distinct_draws(values, draws, weights), self.null)


def largest_only(noisy: Floats) -> Floats:
    """Turn logits with Gumbel noise into logits that leave one token to choose.

    Args:
        noisy: shape (B, V); the largest of each row is the token.

    Returns:
        Shape (B, V): 0 at the largest, minus infinity elsewhere.
    """
    chosen = np.full(noisy.shape, -np.inf)
    chosen[np.arange(len(noisy)), noisy.argmax(axis=1)] = 0.0
    return chosen
