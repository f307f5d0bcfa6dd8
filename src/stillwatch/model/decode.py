"""The decoding loop: rows of answers, each with its own seed, length, sampling and watermark.

Model code is transformers' Llama; the loop is our own, because every row differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.model.folder import SPECIAL_TOKENS, ChatTokenizer

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
#: Logits of a row differ by at most 6e-6 between batches (float32 sums in another order), so a
#: choice by a smaller margin than this is made again by the row alone.
CLOSE = 1e-4


class LogitBias(Protocol):
    """What shifts the logits before a token is chosen, for example a watermark."""

    @property
    def context_width(self) -> int:
        """How many preceding tokens it looks at (count, at least 1)."""
        ...

    def bias(self, context_ids: Ids, vocab_size: int) -> Floats:
        """Compute what to add.

        Args:
            context_ids: the preceding tokens, shape (n_rows, context_width), oldest first.
            vocab_size: tokens in the vocabulary (count).

        Returns:
            Shape (n_rows, vocab_size), float32, added to the logits.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GenerationRow:
    """One answer to generate.

    Attributes:
        prompt_ids: the prompt, as `LocalModel.encode_question` gives it.
        max_new_tokens: where the answer is cut (count, at least 1).
        temperature: 0 for greedy.
        top_p: the smallest set of likeliest tokens holding this share is drawn from, in (0, 1].
        seed: of this row's draws; equal rows with equal seeds give equal answers.
        bias: added to the logits, or None.
        n_top: likeliest tokens to report at each position (count), None for no log-probabilities.
    """

    prompt_ids: Sequence[int]
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    bias: LogitBias | None = None
    n_top: int | None = None


class TokenChoice(NamedTuple):
    """One generated token with its log-probability.

    Attributes:
        token_id: the token that was chosen.
        logprob: natural log of its probability under the model alone: temperature 1, no bias, so
            that a watermark cannot be read off it.
        top: the likeliest tokens as (token_id, logprob), likeliest first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Generation(NamedTuple):
    """One generated answer.

    Attributes:
        text: the answer.
        token_ids: its tokens, without `<eos>`.
        prompt_ids: the prompt's tokens.
        finish_reason: "stop" when the model ended it, "length" when it was cut.
        choices: a record a token when the row asked for log-probabilities, else None.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    finish_reason: str
    choices: tuple[TokenChoice, ...] | None = None


def check_row(row: GenerationRow, *, name: str, context: int) -> None:
    """Refuse a row that a model cannot answer.

    Args:
        row: the answer to generate.
        name: the model's.
        context: the longest conversation that it was made for, in tokens (count).
    """
    where, length = f"model {name}", len(row.prompt_ids)
    if not 1 <= length < context:
        reject(where, "prompt", f"1 to {context - 1} tokens long", got=length)
    if row.max_new_tokens < 1:
        reject(where, "max_new_tokens", "at least 1", got=row.max_new_tokens)
    if not 0 <= row.temperature <= 2:
        reject(where, "temperature", "between 0 and 2", got=row.temperature)
    if not 0 < row.top_p <= 1:
        reject(where, "top_p", "above 0 and at most 1", got=row.top_p)


def generate_by_length(
    rows: Sequence[GenerationRow],
    *,
    batch_size: int,
    run: Callable[[list[GenerationRow]], list[Generation]],
) -> list[Generation]:
    """Generate in batches of rows of like length.

    Args:
        rows: any number.
        batch_size: rows of a batch (count).
        run: generates one batch, in order.

    Returns:
        One generation a row, in order.
    """
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt_ids), i))
    done: dict[int, Generation] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        done.update(zip(chosen, run([rows[i] for i in chosen]), strict=True))
    return [done[i] for i in range(len(rows))]


def rows_by_bias(rows: Iterable[GenerationRow]) -> list[tuple[LogitBias, list[int]]]:
    """Group rows that share a bias, so that they share its computation.

    Args:
        rows: of one forward pass.

    Returns:
        Each bias with the places of its rows; rows without one are left out.
    """
    groups: dict[int, tuple[LogitBias, list[int]]] = {}
    for k, row in enumerate(rows):
        if row.bias is not None:
            groups.setdefault(id(row.bias), (row.bias, []))[1].append(k)
    return list(groups.values())


def pad_left(prompts: Sequence[Sequence[int] | Ids], *, pad_id: int) -> tuple[Ids, Ids]:
    """Lay prompts out so that all end together.

    Args:
        prompts: at least one.
        pad_id: fills prompts up to the longest.

    Returns:
        Token ids, and 1 where a token is the prompt's own; both of shape (n_prompts, longest).
    """
    width = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), width), pad_id, dtype=np.int64)
    own = np.zeros((len(prompts), width), dtype=np.int64)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = prompt
        own[i, width - len(prompt) :] = 1
    return ids, own


class DecodedBatch:
    """Rows that are decoded together: left-padded, one key-value cache, finished rows dropped.

    Args:
        model: a LlamaForCausalLM in evaluation mode.
        tokenizer: its tokenizer.
        rows: at least one, each shorter than the model's context.
    """

    def __init__(self, model: Any, tokenizer: ChatTokenizer, rows: list[GenerationRow]) -> None:
        self.model, self.tokenizer, self.rows = model, tokenizer, rows
        context = int(model.config.max_position_embeddings)
        self.room = np.array([
            min(row.max_new_tokens, context - len(row.prompt_ids)) for row in rows
        ])
        self.answers: list[list[int]] = [[] for _ in rows]
        self.choices: list[list[TokenChoice]] = [[] for _ in rows]
        self.ended = np.zeros(len(rows), dtype=bool)
        # A generator a row, drawn from once a position: a row's draws depend on its seed alone.
        self.rngs = [np.random.default_rng(row.seed) for row in rows]
        self.forbidden = [i for i in range(len(SPECIAL_TOKENS)) if i != tokenizer.eos_id]

    def run(self) -> list[Generation]:
        """Decode until every row has ended or has no room left.

        Returns:
            One generation a row, in order.
        """
        import torch
        from transformers import DynamicCache

        prompts = [row.prompt_ids for row in self.rows]
        ids, seen = pad_left(prompts, pad_id=self.tokenizer.pad_id)
        width, room = ids.shape[1], int(self.room.max())
        places = np.maximum(np.cumsum(seen, axis=1) - 1, 0)
        mask = torch.from_numpy(np.pad(seen, ((0, 0), (0, room)), constant_values=1))
        alive = np.arange(len(self.rows))
        cache = DynamicCache()
        while True:
            out = self.model(
                input_ids=torch.from_numpy(ids),
                attention_mask=mask[:, :width],
                position_ids=torch.from_numpy(places),
                past_key_values=cache,
                logits_to_keep=1,
            )
            tokens = self._choose(out.logits[:, -1].numpy(), alive)
            keep = self._append(tokens, alive)
            if not keep.any():
                break
            if keep.sum() <= 0.75 * len(alive):  # dropping rows costs a copy of the cache
                index = torch.from_numpy(np.flatnonzero(keep))
                cache.batch_select_indices(index)
                mask, alive, tokens = mask[index], alive[keep], tokens[keep]
                places = places[keep]
            ids, places, width = tokens[:, None], places[:, -1:] + 1, width + 1
        return [self._finish(i) for i in range(len(self.rows))]

    def _choose(self, logits: Floats, alive: Ids) -> Ids:
        """Choose the next token of each living row; logits have shape (n_alive, vocab)."""
        logits[:, self.forbidden] = -np.inf
        biased = self._biased(logits, alive)
        tokens: Ids = np.zeros(len(alive), dtype=np.int64)
        for k, i in enumerate(alive):
            if self._is_full(i):
                continue
            row = self.rows[i]
            noise = self._noise(i, logits.shape[1])
            chosen = choose_token(biased[k], row, noise)
            if chosen.is_close:
                chosen = choose_token(self._alone(i), row, noise)
            tokens[k] = chosen.token_id
            if row.n_top is not None:
                self.choices[i].append(_record(logits[k], int(tokens[k]), row.n_top))
        return tokens

    def _is_full(self, i: int) -> bool:
        return bool(self.ended[i]) or len(self.answers[i]) >= self.room[i]

    def _noise(self, i: int, vocab_size: int) -> npt.NDArray[np.float64] | None:
        """Draw Gumbel noise for a row that samples."""
        if self.rows[i].temperature == 0:
            return None
        return -np.log(np.maximum(self.rngs[i].standard_exponential(vocab_size), 1e-300))

    def _alone(self, i: int) -> Floats:
        """Compute the biased logits of one row by itself: the same whatever batch it is in."""
        import torch

        ids = torch.tensor([[*self.rows[i].prompt_ids, *self.answers[i]]])
        logits: Floats = self.model(input_ids=ids, logits_to_keep=1).logits[:, -1].numpy()
        logits[:, self.forbidden] = -np.inf
        biased: Floats = self._biased(logits, np.array([i]))[0]
        return biased

    def _biased(self, logits: Floats, alive: Ids) -> Floats:
        groups = rows_by_bias(self.rows[i] for i in alive)
        if not groups:
            return logits
        biased = logits.copy()
        for bias, members in groups:
            context = np.array(
                [self._preceding(alive[k], bias.context_width) for k in members], dtype=np.int64
            )
            biased[members] += bias.bias(context, logits.shape[1])
        return biased

    def _preceding(self, i: int, width: int) -> list[int]:
        known = [*self.rows[i].prompt_ids[-width:], *self.answers[i][-width:]][-width:]
        return [self.tokenizer.pad_id] * (width - len(known)) + known

    def _append(self, tokens: Ids, alive: Ids) -> npt.NDArray[np.bool_]:
        """Take the tokens of the rows that are not full; say which rows go on."""
        keep = np.zeros(len(alive), dtype=bool)
        for k, i in enumerate(alive):
            if self.ended[i] or len(self.answers[i]) >= self.room[i]:
                continue
            if tokens[k] == self.tokenizer.eos_id:
                self.ended[i] = True
                continue
            self.answers[i].append(int(tokens[k]))
            keep[k] = len(self.answers[i]) < self.room[i]
        return keep

    def _finish(self, i: int) -> Generation:
        row = self.rows[i]
        return Generation(
            text=self.tokenizer.decode(self.answers[i]),
            token_ids=tuple(self.answers[i]),
            prompt_ids=tuple(int(token) for token in row.prompt_ids),
            finish_reason="stop" if self.ended[i] else "length",
            choices=None if row.n_top is None else tuple(self.choices[i]),
        )


class Choice(NamedTuple):
    """A token chosen from logits.

    Attributes:
        token_id: the token.
        is_close: whether float noise of `CLOSE` could have chosen another.
    """

    token_id: int
    is_close: bool


def choose_token(
    logits: Floats, row: GenerationRow, noise: npt.NDArray[np.float64] | None
) -> Choice:
    """Draw a token by the Gumbel-max rule, or take the likeliest at temperature 0.

    Inverting the cumulative distribution would be simpler, but there every one of the vocabulary's
    boundaries moves with float noise; here only the two best candidates matter.

    Args:
        logits: shape (vocab,), biased.
        row: temperature and top_p are read.
        noise: shape (vocab,), standard Gumbel draws; None for temperature 0.

    Returns:
        The token, and whether it was a close call.

    Example:
        >>> logits = np.log(np.array([0.2, 0.5, 0.3], dtype=np.float32))
        >>> choose_token(logits, GenerationRow(prompt_ids=[]), None)
        Choice(token_id=1, is_close=False)
    """
    if noise is None:
        return _best_two(logits.copy())
    scores = logits.astype(np.float64) / row.temperature
    if row.top_p >= 1:
        return _best_two(scores + noise)
    before = _shares_before(scores)
    # The edge of the set moves with float noise too: judge with it a little wider.
    wide = np.where(before < row.top_p + CLOSE, scores + noise, -np.inf)
    chosen = _best_two(wide)
    if before[chosen.token_id] < row.top_p - CLOSE:
        return chosen
    inside = np.where(before < row.top_p, scores + noise, -np.inf)
    return Choice(int(inside.argmax()), is_close=True)


def _best_two(scores: npt.NDArray[Any]) -> Choice:
    """Take the best of scores that the caller no longer needs, and compare the second."""
    best = int(scores.argmax())
    top = scores[best]
    scores[best] = -np.inf
    return Choice(best, bool(top - scores.max() < CLOSE))


def _shares_before(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum for each token the shares of the likelier ones."""
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    before: npt.NDArray[np.float64] = np.empty(len(shares))
    before[order] = np.cumsum(shares[order]) - shares[order]
    return before


def _record(logits: Floats, token_id: int, n_top: int) -> TokenChoice:
    wide = logits.astype(np.float64)
    top = float(wide.max())
    logprobs = wide - top - np.log(np.exp(wide - top).sum())
    likeliest = np.argsort(-logprobs, kind="stable")[:n_top]
    return TokenChoice(
        token_id,
        float(logprobs[token_id]),
        tuple((int(i), float(logprobs[i])) for i in likeliest if np.isfinite(logprobs[i])),
    )
