"""Embedding: any mark as a logits processor of transformers' `generate`.

    processor = MarkProcessor(mark, n_prompt=inputs["input_ids"].shape[1], temperature=0.8)
    model.generate(**inputs, do_sample=True, temperature=0.8,
                   logits_processor=LogitsProcessorList([processor]))

Campaigns get their sub-key by `mark.with_key(sub_key(master_key, campaign_id))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stillwatch.errors import extra, reject
from stillwatch.trace.marks.protocol import Mark
from stillwatch.trace.radioactivity.windows import Ids, Mask

if TYPE_CHECKING:
    import torch


class MarkProcessor:
    """Marks the scores of the next token; one processor serves one call of `generate`.

    It keeps no state between steps, so beams may be reordered. Scores are divided by the
    temperature, marked, and multiplied by it again, because `generate` divides later.

    Args:
        mark: what to embed.
        n_prompt: tokens of the prompt, padding included (count).
        temperature: the one that `generate` is given, above 0.
        once_per_context: leave a context that this answer has already used unmarked, as serving
            engines do; otherwise answers fall into loops. None: yes, except for green lists.
    """

    def __init__(
        self,
        mark: Mark,
        n_prompt: int,
        *,
        temperature: float = 1.0,
        once_per_context: bool | None = None,
    ) -> None:
        if n_prompt < 0:
            reject("MarkProcessor", "n_prompt", "0 or more", got=n_prompt)
        if not temperature > 0:
            reject("MarkProcessor", "temperature", "above 0", got=temperature)
        self._mark = mark
        self._n_prompt = n_prompt
        self._temperature = temperature
        self._once = mark.null.kind != "bernoulli" if once_per_context is None else once_per_context

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Mark the scores of one step.

        Args:
            input_ids: prompt and answer so far, shape (B, n).
            scores: logits of the next token, shape (B, V).

        Returns:
            Marked logits, shape (B, V), of the same type and device.
        """
        with extra("train"):
            import torch
        ids = input_ids.detach().cpu().numpy().astype(np.int64)
        contexts = self._contexts(ids)
        if contexts is None:
            return scores
        logits = scores.detach().to("cpu", torch.float64).numpy()
        marked = self._mark.embed(contexts, logits / self._temperature) * self._temperature
        if self._once:
            marked = np.where(self._seen(ids, contexts)[:, None], logits, marked)
        return torch.from_numpy(np.ascontiguousarray(marked)).to(scores.device, scores.dtype)

    def _contexts(self, ids: Ids) -> Ids | None:
        width = self._mark.context_width
        history = self._history(ids)
        if history.shape[1] < width:
            return None
        return history[:, history.shape[1] - width :]

    def _history(self, ids: Ids) -> Ids:
        """Give what contexts are cut from: everything, or padding and the answer."""
        if self._mark.pad is None:
            return ids
        filler = np.full((len(ids), self._mark.context_width), self._mark.pad, dtype=np.int64)
        return np.concatenate([filler, ids[:, self._n_prompt :]], axis=1)

    def _seen(self, ids: Ids, contexts: Ids) -> Mask:
        """Tell for each row whether a token of this answer was drawn after the same context."""
        width = contexts.shape[1]
        n_drawn = ids.shape[1] - self._n_prompt
        if width == 0 or n_drawn <= 0:
            return np.zeros(len(ids), dtype=bool)
        views = np.lib.stride_tricks.sliding_window_view(self._history(ids), width, axis=1)
        # The last view is the context itself; the n_drawn before it are those of the answer.
        earlier = views[:, :-1][:, -n_drawn:]
        same: Mask = (earlier == contexts[:, None, :]).all(axis=2).any(axis=1)
        return same
