"""Decode a batch through transformers' `generate`, with each row's own seed, length and sampling.

The token is chosen in a logits processor that leaves one candidate a row, so `generate` itself runs
greedily, and its caches, position ids and special layers are those of the architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillwatch.errors import extra
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.decode import Generation, GenerationRow, TokenChoice, pad_left, rows_by_bias

#: Likeliest tokens that are sorted before the whole vocabulary is.
_FEW = 256


def generate_batch(
    model: Any, template: ChatTemplate, rows: Sequence[GenerationRow]
) -> list[Generation]:
    """Generate the answers of one batch.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        template: its tokenizer.
        rows: at least one.

    Returns:
        One generation a row, in order. A row's draws depend on its seed alone; sums over other
        batch sizes differ in the last bit, which can turn a near-tie.
    """
    with extra("train"):
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
    ids, mask = pad_left([row.prompt_ids for row in rows], pad_id=template.pad_id)
    width = ids.shape[1]
    chooser = _Chooser(rows, width=width)
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max(row.max_new_tokens for row in rows),
        eos_token_id=list(template.eos_ids),
        pad_token_id=template.pad_id,
    )
    with torch.inference_mode():
        out = model.generate(
            input_ids=torch.from_numpy(ids).to(model.device),
            attention_mask=torch.from_numpy(mask).to(model.device),
            generation_config=settings,
            logits_processor=LogitsProcessorList([chooser]),
            stopping_criteria=StoppingCriteriaList([_Limit(rows, width=width)]),
        )
    answers = out[:, width:].tolist()
    return [_finish(i, answers[i], template, chooser=chooser) for i in range(len(rows))]


class _Limit:
    """Ends each row at its own length."""

    def __init__(self, rows: Sequence[GenerationRow], *, width: int) -> None:
        self.limits = [row.max_new_tokens for row in rows]
        self.width = width

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        done = input_ids.shape[1] - self.width
        return torch.tensor([done >= limit for limit in self.limits], device=input_ids.device)


class _Chooser:
    """Leaves one candidate a row: the likeliest, or a draw from the row's own generator."""

    def __init__(self, rows: Sequence[GenerationRow], *, width: int) -> None:
        self.rows = rows
        self.width = width
        self.rngs = [np.random.default_rng(row.seed) for row in rows]
        self.is_drawn = [row.temperature > 0 for row in rows]
        self.n_top = max((row.n_top or 0 for row in rows), default=0)
        self.records: list[tuple[Any, Any, Any]] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        shifted = self._biased(input_ids, scores)
        chosen = shifted.argmax(dim=-1)
        if any(self.is_drawn):
            chosen = torch.where(
                torch.tensor(self.is_drawn, device=scores.device), self._draw(shifted), chosen
            )
        if any(row.n_top is not None for row in self.rows):
            self._record(scores, chosen)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, chosen[:, None], 0.0)

    def _draw(self, scores: Any) -> Any:
        """Invert the cumulative distribution at one uniform number a row, in float64."""
        import torch

        heat = torch.tensor([[row.temperature or 1.0] for row in self.rows], dtype=torch.float64)
        shares = (scores.double() / heat.to(scores.device)).softmax(dim=-1)
        uniform = torch.tensor([[rng.random()] for rng in self.rngs], device=scores.device)
        if all(row.top_p >= 1 for row in self.rows):
            return _invert(shares, uniform)
        edge = torch.tensor([[row.top_p] for row in self.rows], device=scores.device)
        ordered, index = _likeliest(shares, edge)
        # A token is inside when the likelier ones together hold less than top_p.
        kept = torch.where(ordered.cumsum(dim=-1) - ordered < edge, ordered, 0.0)
        return index.gather(1, _invert(kept, uniform)[:, None])[:, 0]

    def _biased(self, input_ids: Any, scores: Any) -> Any:
        """Add what the rows' biases ask for."""
        import torch

        groups = rows_by_bias(self.rows)
        if not groups:
            return scores
        shifted = scores.clone()
        for bias, members in groups:
            context = input_ids[members, -bias.context_width :].cpu().numpy()
            added = torch.from_numpy(bias.bias(context, scores.shape[1])).to(scores.device)
            shifted[members] += added
        return shifted

    def _record(self, scores: Any, chosen: Any) -> None:
        """Keep the log-probabilities of the model alone: temperature 1, no bias."""
        logprobs = scores.float().log_softmax(dim=-1)
        top = logprobs.topk(max(self.n_top, 1), dim=-1)
        own = logprobs.gather(1, chosen[:, None])[:, 0]
        self.records.append((
            own.cpu().numpy(),
            top.indices.cpu().numpy(),
            top.values.cpu().numpy(),
        ))

    def choice(self, i: int, n: int, *, token_id: int) -> TokenChoice:
        """Say with what log-probability row `i` chose its token `n`."""
        own, indices, values = self.records[n]
        n_top = self.rows[i].n_top or 0
        pairs = zip(indices[i][:n_top].tolist(), values[i][:n_top].tolist(), strict=True)
        return TokenChoice(token_id, float(own[i]), tuple((int(k), float(v)) for k, v in pairs))


def _invert(shares: Any, uniform: Any) -> Any:
    """Find where the running sum of each row passes its uniform number, a share of the whole."""
    upto = shares.cumsum(dim=-1)
    place = (upto <= uniform * upto[:, -1:]).sum(dim=-1)
    return place.clamp(max=shares.shape[1] - 1)


def _likeliest(shares: Any, edge: Any) -> tuple[Any, Any]:
    """Sort as many tokens as every row's top_p needs: the whole vocabulary is rarely worth it."""
    few = shares.topk(min(_FEW, shares.shape[1]), dim=-1)
    if bool((few.values.sum(dim=-1, keepdim=True) >= edge).all()):
        return few.values, few.indices
    ordered = shares.sort(dim=-1, descending=True, stable=True)
    return ordered.values, ordered.indices


def _finish(i: int, tokens: list[int], template: ChatTemplate, *, chooser: _Chooser) -> Generation:
    row = chooser.rows[i]
    tokens = tokens[: row.max_new_tokens]
    end = next((n for n, token in enumerate(tokens) if token in template.eos_ids), None)
    kept = tokens if end is None else tokens[:end]
    choices = None
    if row.n_top is not None:
        choices = tuple(chooser.choice(i, n, token_id=token) for n, token in enumerate(kept))
    return Generation(
        text=template.decode(kept),
        token_ids=tuple(kept),
        prompt_ids=tuple(int(token) for token in row.prompt_ids),
        finish_reason="length" if end is None else "stop",
        choices=choices,
    )
