"""vLLM's marks, read with the key that the server was started with.

`gumbel` and `dual_key_gumbel` draw a uniform from Philox for every (context, token); `red_green`
calls a token green where that uniform is below gamma; `sbw` hashes context and token to a seed and
draws a green bit from Philox under it. Contexts are tokens of the answer; before its first token
stands -1.

Source: vLLM's published `vllm/v1/watermarking` (Apache-2.0), read for the rule; the code is ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.trace.marks.base import WindowScoring, largest_only
from stillwatch.trace.marks.keys import engine_integer, public_id
from stillwatch.trace.marks.nulls import Null
from stillwatch.trace.marks.philox import philox4x32, vllm_words
from stillwatch.trace.marks.protocol import Floats
from stillwatch.trace.radioactivity.windows import Ids, Windows, context_columns, number_rows

#: vLLM keeps 24 bits of each word and centres them: (m + 1) / (2 ** 24 + 1), as a 32-bit float.
_STEPS = 2**24
_INT31 = 2**31 - 1


def derive_vllm_key(key: int, domain: bytes) -> int:
    """Derive one of the two keys of `dual_key_gumbel`.

    Args:
        key: the configured key.
        domain: b"key_a" or b"key_b".

    Returns:
        A 64-bit key.
    """
    digest = hashlib.sha256(domain + key.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big")


@dataclass(frozen=True)
class VllmGumbelMark(WindowScoring):
    """vLLM's `gumbel`, and with `alpha` its `dual_key_gumbel`.

    Attributes:
        key: the 64-bit key of the server's watermark configuration.
        context_width: answer tokens before a token that decide its draw (count).
        alpha: share of tokens chosen by key B, 0..1; None for the single key.
    """

    key: int = field(repr=False)
    context_width: int = 4
    alpha: float | None = None

    def __post_init__(self) -> None:
        _check_key("VllmGumbelMark", self.key, self.context_width)
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            reject("VllmGumbelMark", "alpha", "between 0 and 1", got=self.alpha)

    @cached_property
    def key_id(self) -> str:
        """Public name of the key."""
        return public_id("vllm gumbel", self.key, self.context_width, self.alpha)

    @property
    def pad(self) -> int | None:
        """-1 stands before the answer's first token."""
        return -1

    @cached_property
    def null(self) -> Null:
        """One standard exponential, or two weighted by the share of their keys."""
        parts = tuple(share for share, _ in self._keys)
        return Null("exponential" if len(parts) == 1 else "mixture", 1.0, parts)

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give -ln(1 - u), averaged over the keys by their shares.

        Args:
            windows: of this mark's width.
            vocab_size: not needed here.

        Returns:
            Shape (n,), 0 or more.
        """
        contexts = context_columns("VllmGumbelMark", windows.context_ids, self.context_width)
        return self._surprise(contexts, np.asarray(windows.token_ids, dtype=np.int64))

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give the value of every next token.

        Args:
            context_ids: shape (B, k), -1 where the answer has not begun.
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V).
        """
        contexts = context_columns("VllmGumbelMark", context_ids, self.context_width)
        return self._surprise(contexts, np.arange(vocab_size, dtype=np.int64)[None, :])

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Leave the token that the key chooses; divide the logits by the temperature before.

        With two keys the server flips a coin of its own; here the context decides between them.

        Args:
            context_ids: shape (B, k).
            logits: shape (B, V).

        Returns:
            Shape (B, V): 0 at the chosen token, minus infinity elsewhere.
        """
        given = np.asarray(logits, dtype=np.float64)
        contexts = context_columns("VllmGumbelMark", context_ids, self.context_width)
        tokens = np.arange(given.shape[1], dtype=np.int64)[None, :]
        marked = [largest_only(given + _noise(key, contexts, tokens)) for _, key in self._keys]
        if len(marked) == 1:
            return marked[0]
        route = vllm_words(derive_vllm_key(self.key, b"route"), contexts, tokens[:, :1])
        use_b = route[:, 0].astype(np.float64) / 2**32 < self._keys[1][0]
        return np.where(use_b[:, None], marked[1], marked[0])

    def with_key(self, key: bytes) -> VllmGumbelMark:
        """Make the same mark under another secret.

        Args:
            key: 16 bytes or more; the server's integer key is `engine_integer(key, "vllm gumbel")`.

        Returns:
            The mark.
        """
        return replace(self, key=engine_integer(key, "vllm gumbel"))

    @cached_property
    def _keys(self) -> tuple[tuple[float, int], ...]:
        if self.alpha is None:
            return ((1.0, self.key),)
        shares = (
            (1 - self.alpha, derive_vllm_key(self.key, b"key_a")),
            (
                self.alpha,
                derive_vllm_key(self.key, b"key_b"),
            ),
        )
        return tuple(pair for pair in shares if pair[0])

    def _surprise(self, contexts: Ids, token_ids: Ids) -> Floats:
        total: Floats = np.zeros(1)
        for share, key in self._keys:
            # The bits rounded down, not centred: never above a true exponential.
            bits = (vllm_words(key, contexts, token_ids) >> np.uint64(8)).astype(np.float64)
            total = total - share * np.log1p(-bits / _STEPS)
        return total


@dataclass(frozen=True)
class VllmGreenMark(WindowScoring):
    """vLLM's `red_green` (scheme "philox") and `sbw` (schemes "selfhash" and "lefthash").

    Attributes:
        key: the 64-bit key.
        scheme: how a token's colour is drawn.
        context_width: answer tokens that vLLM calls the context (count, at least 1); `selfhash`
            looks at one fewer, for its first is not used.
        gamma: share of green tokens.
        delta: added to the logits of green tokens (nats).
        hashed_sum: for "lefthash" alone: True sums hashed context ids, as vLLM's detector does,
            False the ids themselves, as its sampler does; the two disagree in the source read.
    """

    key: int = field(repr=False)
    scheme: Literal["philox", "selfhash", "lefthash"] = "selfhash"
    context_width: int = 4
    gamma: float = 0.5
    delta: float = 2.0
    hashed_sum: bool = False

    def __post_init__(self) -> None:
        _check_key("VllmGreenMark", self.key, self.context_width)
        if not 0 < self.gamma < 1:
            reject("VllmGreenMark", "gamma", "between 0 and 1", got=self.gamma)
        if self.scheme not in ("philox", "selfhash", "lefthash"):
            reject("VllmGreenMark", "scheme", "philox, selfhash or lefthash", got=self.scheme)

    @cached_property
    def key_id(self) -> str:
        """Public name of the key."""
        settings = (self.scheme, self.context_width, self.gamma, self.hashed_sum)
        return public_id("vllm green", self.key, *settings)

    @property
    def pad(self) -> int | None:
        """-1 stands before the answer's first token."""
        return -1

    @cached_property
    def null(self) -> Null:
        """Green with the chance that the server's integer threshold gives exactly."""
        if self.scheme == "philox":
            return Null("bernoulli", _green_steps(self.gamma) / _STEPS)
        return Null("bernoulli", int(self.gamma * _INT31) / 2**31)

    def values(self, windows: Windows, vocab_size: int) -> Floats:
        """Give 1 for green windows, 0 for others, NaN where the seed holds no key.

        Args:
            windows: of this mark's width.
            vocab_size: not needed here.

        Returns:
            Shape (n,).
        """
        contexts = context_columns("VllmGreenMark", windows.context_ids, self.context_width)
        tokens = np.asarray(windows.token_ids, dtype=np.int64)
        if self.scheme == "philox":
            return self._is_green(vllm_words(self.key, contexts, tokens))
        seeds = self._seeds(contexts, tokens)
        return np.where(seeds == 0, np.nan, self._is_green(_sbw_words(seeds, tokens)))

    def draws(self, windows: Windows, vocab_size: int) -> Ids:
        """Number the draws: windows with one seed and one token share a colour.

        Args:
            windows: of this mark's width.
            vocab_size: not needed here.

        Returns:
            Shape (n,).
        """
        if self.scheme == "philox":
            return super().draws(windows, vocab_size)
        contexts = context_columns("VllmGreenMark", windows.context_ids, self.context_width)
        tokens = np.asarray(windows.token_ids, dtype=np.int64)
        return number_rows(np.column_stack([self._seeds(contexts, tokens), tokens]))

    def token_values(self, context_ids: npt.ArrayLike, vocab_size: int) -> Floats:
        """Give 1 for every next token that is green.

        Args:
            context_ids: shape (B, k).
            vocab_size: size of the vocabulary, V.

        Returns:
            Shape (B, V).
        """
        contexts = context_columns("VllmGreenMark", context_ids, self.context_width)
        tokens = np.arange(vocab_size, dtype=np.int64)
        if self.scheme == "philox":
            return self._is_green(vllm_words(self.key, contexts, tokens[None, :]))
        rows = np.repeat(contexts, vocab_size, axis=0)
        every = np.tile(tokens, len(contexts))
        green = self._is_green(_sbw_words(self._seeds(rows, every), every))
        return green.reshape(len(contexts), vocab_size)

    def embed(self, context_ids: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
        """Add delta to the logits of green tokens.

        Args:
            context_ids: shape (B, k).
            logits: shape (B, V).

        Returns:
            Shape (B, V).
        """
        given = np.asarray(logits, dtype=np.float64)
        return given + self.delta * self.token_values(context_ids, given.shape[1])

    def with_key(self, key: bytes) -> VllmGreenMark:
        """Make the same mark under another secret.

        Args:
            key: 16 bytes or more; the server's integer is `engine_integer(key, "vllm green",
                bits=63)`.

        Returns:
            The mark.
        """
        return replace(self, key=engine_integer(key, "vllm green", bits=63))

    def _is_green(self, words: npt.NDArray[np.uint64]) -> Floats:
        if self.scheme == "philox":
            steps = np.uint64(_green_steps(self.gamma))
            return ((words >> np.uint64(8)) < steps).astype(np.float64)
        return ((words & np.uint64(_INT31)) < np.uint64(int(self.gamma * _INT31))).astype(
            np.float64
        )

    def _seeds(self, contexts: Ids, token_ids: Ids) -> Ids:
        key = np.array([self.key], dtype=np.uint64).view(np.int64)
        if self.scheme == "lefthash":
            summands = sbw_hash(contexts) if self.hashed_sum else contexts
            return np.asarray(key * summands.sum(axis=1))
        anchor = sbw_hash(token_ids)
        seeds = key * anchor * anchor
        if contexts.shape[1] > 1:
            products = key * (sbw_hash(contexts[:, 1:]) * anchor[:, None])
            seeds = np.minimum(seeds, products.min(axis=1))
        return np.asarray(seeds)


def sbw_hash(ids: Ids) -> Ids:
    """Hash token ids by the 32-bit integer hash of `sbw`.

    Args:
        ids: any shape; -1 gives 0.

    Returns:
        The same shape, int64.
    """
    i = (np.asarray(ids) + 1).astype(np.int32)
    for operation, bits in _JENKINS:
        if operation == "-<":
            i = i - (i << bits)
        else:
            i = i ^ (i << bits if operation == "^<" else i >> bits)
    return np.asarray(i, dtype=np.int64)


_JENKINS = (
    ("-<", np.int32(6)), ("^>", np.int32(17)), ("-<", np.int32(9)), ("^<", np.int32(4)),
    ("-<", np.int32(3)), ("^<", np.int32(10)), ("^>", np.int32(15)),
)  # fmt: skip


def _sbw_words(seeds: Ids, token_ids: Ids) -> npt.NDArray[np.uint64]:
    tokens = token_ids.astype(np.uint64)
    keys = seeds.view(np.uint64)
    zeros = np.zeros(len(tokens), dtype=np.uint64)
    outputs = philox4x32(
        (tokens >> np.uint64(2), zeros, zeros, zeros),
        (keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32)),
    )
    words: npt.NDArray[np.uint64] = np.stack(outputs)
    return np.asarray(np.choose((tokens & np.uint64(3)).astype(np.intp), words))


def _noise(key: int, contexts: Ids, tokens: Ids) -> Floats:
    """Gumbel noise in the 32-bit arithmetic of the server's reference path."""
    bits = (vllm_words(key, contexts, tokens) >> np.uint64(8)).astype(np.float64)
    uniforms = ((bits + 1) / (_STEPS + 1)).astype(np.float32)
    return -np.log(-np.log(uniforms)).astype(np.float64)


def _green_steps(gamma: float) -> int:
    """Count the 24-bit draws whose centred 32-bit float lies below gamma."""
    guess = int(gamma * (_STEPS + 1)) - 1
    steps = max(guess - 2, 0)
    while steps < _STEPS and np.float32((steps + 1) / (_STEPS + 1)) < np.float32(gamma):
        steps += 1
    return steps


def _check_key(where: str, key: int, context_width: int) -> None:
    if not 0 <= key < 2**64:
        reject(where, "key", "a 64-bit integer", got=f"{key.bit_length()} bits")
    if context_width < 1:
        reject(where, "context_width", "at least 1", got=context_width)
