"""transformers' green lists (`WatermarkingConfig`), exactly as `generate` draws them on a CPU.

Two facts of the published scheme decide what may be counted. `lefthash` seeds its list with the
last token alone, whatever `context_width` says. `selfhash` seeds with the smallest of a few hashed
products, so that different windows often share one seed and with it one colour. A window counts
once for each (seed, token), not once for each n-gram.

Source: Kirchenbauer et al. 2023 (arXiv 2301.10226, 2306.04634) and the Apache-2.0 source of
transformers 5.23, read for the rule; the code is ours. `torch.Generator` draws other numbers on a
GPU: lists embedded there cannot be read here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.trace.marks.base import WindowScoring
from stillwatch.trace.marks.keys import engine_integer, public_id
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.permutation import are_in_front, permutation_front
from stillwatch.trace.marks.protocol import Evidence, Floats
from stillwatch.trace.marks.scoring import (
    distinct_draws,
    finite_population_tail,
    sum_evidence,
)
from stillwatch.trace.radioactivity.windows import (
    Ids,
    Mask,
    Windows,
    check_ids,
    context_columns,
    number_rows,
)

_TABLE_SIZE = 1_000_003
#: Candidates that `selfhash` tries at each step, best first.
_TRIED = 40


@dataclass(frozen=True)
class TransformersGreenMark(WindowScoring):
    """A green list of transformers' `WatermarkingConfig`.

    Attributes:
        hashing_key: the configuration's key.
        vocab_size: of the model's configuration (its logits), which the lists are cut from.
        seeding_scheme: "lefthash" or "selfhash".
        configured_width: the configuration's `context_width` (count, at least 1).
        greenlist_ratio: share of green tokens.
        bias_nats: the configuration's `bias`.
    """

    hashing_key: int = field(repr=False)
    vocab_size: int
    seeding_scheme: Literal["lefthash", "selfhash"] = "lefthash"
    configured_width: int = 1
    greenlist_ratio: float = 0.25
    bias_nats: float = 2.0

    def __post_init__(self) -> None:
        where = "TransformersGreenMark"
        if self.seeding_scheme not in ("lefthash", "selfhash"):
            reject(where, "seeding_scheme", "lefthash or selfhash", got=self.seeding_scheme)
        if not 0 < self.hashing_key < 2**63:
            got = f"{self.hashing_key.bit_length()} bits"
            reject(where, "hashing_key", "in 1 .. 2 ** 63 - 1", got=got)
        if self.configured_width < 1:
            reject(where, "context_width", "at least 1", got=self.configured_width)
        if not 0 < self._n_green < self.vocab_size:
            rule = "between 0 and 1 and leave a token of each colour"
            reject(where, "greenlist_ratio", rule, got=self.greenlist_ratio)

    @functools.cached_property
    def key_id(self) -> str:
        """Public name of the key; the key has few bits, so treat the name as half a secret."""
        width = self.configured_width if self.seeding_scheme == "selfhash" else 1
        settings = (self.seeding_scheme, width, self._n_green, self.vocab_size)
        return public_id("transformers green", self.hashing_key, *settings)

    @property
    def context_width(self) -> int:
        """Tokens that really decide: 1 for lefthash, one fewer than configured for selfhash."""
        return 1 if self.seeding_scheme == "lefthash" else self.configured_width - 1

    @property
    def pad(self) -> int | None:
        """None: contexts reach back into the question."""
        return None

    @property
    def null(self) -> Null:
        """Green with chance (green tokens) / (vocabulary)."""
        return Null("bernoulli", self._n_green / self.vocab_size)

    @property
    def _n_green(self) -> int:
        return int(self.vocab_size * self.greenlist_ratio)

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give 1 for green windows, 0 for others, NaN after token 0, whose list needs no key.

        Args:
            windows: of this mark's width.
            vocab_size: of the text; at most the mark's own.

        Returns:
            Shape (n,).
        """
        contexts, tokens = self._read(windows, vocab_size)
        green = self._are_green(self._seeds(contexts, tokens), tokens)
        keyless = np.zeros(len(tokens), dtype=bool)
        if self.seeding_scheme == "lefthash":
            keyless = contexts[:, -1] == 0
        return np.where(keyless, np.nan, green.astype(np.float64))

    def draws(self, windows: Windows, vocab_size: int) -> Ids:
        """Number the draws: windows with one seed and one token share a colour.

        Args:
            windows: of this mark's width.
            vocab_size: as for `values`.

        Returns:
            Shape (n,).
        """
        contexts, tokens = self._read(windows, vocab_size)
        return number_rows(np.column_stack([self._seeds(contexts, tokens), tokens]))

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give 1 for every next token that is green.

        Args:
            context_ids: shape (B, k).
            vocab_size: tokens asked for, at most the mark's own.

        Returns:
            Shape (B, vocab_size).
        """
        contexts = context_columns("TransformersGreenMark", context_ids, self.context_width)
        tokens = np.arange(vocab_size, dtype=np.int64)
        green = np.zeros((len(contexts), vocab_size))
        for row, context in enumerate(contexts):
            if self.seeding_scheme == "lefthash":
                seed = int(self._seeds(context[None, :], tokens[:1])[0])
                front = permutation_front(seed, self._n_green, self.vocab_size)
                green[row, front[front < vocab_size]] = 1.0
            else:
                every = np.broadcast_to(context, (vocab_size, len(context)))
                seeds = self._seeds(every, tokens)
                green[row] = self._are_green(seeds, tokens)
        return green

    def score(
        self, windows: Windows, vocab_size: int, *, weights: npt.ArrayLike | None = None
    ) -> Evidence:
        """Count green draws, exactly: lists hold a fixed number of green tokens.

        With weights the draws of one list are taken as independent; they are negatively
        dependent, so their sum spreads less than that.

        Args:
            windows: of this mark's width.
            vocab_size: of the text.
            weights: shape (n,), 0 or more, chosen without the key; None for equal weights.

        Returns:
            The count of green draws (or their weights' sum) and its tail.
        """
        contexts, tokens = self._read(windows, vocab_size)
        seeds = self._seeds(contexts, tokens)
        draws = number_rows(np.column_stack([seeds, tokens]))
        scored = distinct_draws(self.values(windows, vocab_size), draws, weights)
        if len(scored.kept) == 0 or len(np.unique(scored.weights)) > 1:
            return sum_evidence(scored, self.null)
        n_green, n = round(float(scored.values.sum())), len(scored.kept)
        lists = (self._n_green, self.vocab_size)
        tail = finite_population_tail(n_green, seeds[scored.kept], lists)
        words = f"{n} draws from lists of {self._n_green} in {self.vocab_size}, exact"
        return Evidence(float(n_green), n, tail.p_value, tail.log10_p, words)

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Add the bias as `generate` does: selfhash tries only the 40 likeliest tokens.

        Args:
            context_ids: shape (B, k).
            logits: shape (B, V).

        Returns:
            Shape (B, V).
        """
        given = np.asarray(logits, dtype=np.float64)
        if self.seeding_scheme == "lefthash":
            return given + self.bias_nats * self.token_values(context_ids, given.shape[1])
        contexts = context_columns("TransformersGreenMark", context_ids, self.context_width)
        marked = given.copy()
        for row, context in enumerate(contexts):
            tried = np.argsort(-given[row], kind="stable")[:_TRIED]
            every = np.broadcast_to(context, (len(tried), len(context)))
            seeds = self._seeds(every, tried)
            green = self._are_green(seeds, tried)
            marked[row, tried[green]] += self.bias_nats
        return marked

    def with_key(self, key: bytes) -> TransformersGreenMark:
        """Make the same scheme under another secret.

        Args:
            key: 16 bytes or more; the configuration's integer is
                `engine_integer(key, "transformers green", bits=32)`: more bits are not used.

        Returns:
            The mark.
        """
        return replace(self, hashing_key=engine_integer(key, "transformers green", bits=32))

    def _are_green(self, seeds: Ids, tokens: Ids) -> Mask:
        return are_in_front(seeds, tokens, n_front=self._n_green, n=self.vocab_size)

    def _read(self, windows: Windows, vocab_size: int) -> tuple[Ids, Ids]:
        if vocab_size > self.vocab_size:
            rule = f"at most the mark's own ({self.vocab_size})"
            reject("TransformersGreenMark", "vocab_size", rule, got=vocab_size)
        contexts = context_columns("TransformersGreenMark", windows.context_ids, self.context_width)
        tokens = np.asarray(windows.token_ids, dtype=np.int64)
        check_ids("TransformersGreenMark", "token_ids", ids=tokens, vocab_size=self.vocab_size)
        return contexts, tokens

    def _seeds(self, contexts: Ids, tokens: Ids) -> Ids:
        """Give the low 32 bits of each window's seed: torch's CPU generator uses no others."""
        if self.seeding_scheme == "lefthash":
            last, where = np.unique(contexts[:, -1], return_inverse=True)
            found = [self.hashing_key * int(t) % (2**64 - 1) & 0xFFFFFFFF for t in last]
            return np.array(found, dtype=np.int64)[where]
        return _selfhash_seeds(self.hashing_key, (contexts, tokens), self.vocab_size)


def _selfhash_seeds(hashing_key: int, windows: tuple[Ids, Ids], vocab_size: int) -> Ids:
    contexts, tokens = windows
    table = _fixed_table(hashing_key, vocab_size)
    anchor = table[tokens % _TABLE_SIZE] + 1
    # int64 products wrap around, as tensors do.
    seeds = np.int64(hashing_key) * anchor * anchor
    if contexts.shape[1]:
        others = np.int64(hashing_key) * (table[contexts % _TABLE_SIZE] + 1)
        seeds = np.minimum(seeds, (others * anchor[:, None]).min(axis=1))
    # Python's remainder by 2 ** 64 - 1 shifts negative numbers up by it.
    return np.asarray(np.where(seeds < 0, seeds - 1, seeds), dtype=np.int64) & 0xFFFFFFFF


@functools.lru_cache(maxsize=8)
def _fixed_table(hashing_key: int, vocab_size: int) -> Ids:
    n_used = min(vocab_size, _TABLE_SIZE)
    table = permutation_front(hashing_key & 0xFFFFFFFF, n_used, _TABLE_SIZE)
    table = table.copy()
    table.setflags(write=False)
    return table
