"""The student's own answers to the teacher's questions, sampled in batches.

transformers' own `generate` draws them, so caches and positions are the architecture's; every
sampling setting that a folder carries is set aside, because the policy gradient needs the very
distribution that was drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.batches import Row, row_of
from stillwatch.distill.training.forward import own_randomness
from stillwatch.errors import extra
from stillwatch.model.decode import pad_left


class Asked(NamedTuple):
    """A question with the teacher's answer, as the student's tokens.

    Attributes:
        prompt_ids: what stands before the answer.
        row: prompt and answer; only the answer's tokens are targets.
    """

    prompt_ids: npt.NDArray[np.int64]
    row: Row


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the student is sampled.

    Attributes:
        samples: answers a question (count).
        temperature: above 0.
        max_new_tokens: where an answer is cut (count).
        pad_id: fills short prompts.
        eos_ids: tokens that end an answer.
        forbidden: tokens that are never drawn.
    """

    samples: int
    temperature: float
    max_new_tokens: int
    pad_id: int
    eos_ids: tuple[int, ...]
    forbidden: tuple[int, ...] = ()


def asked_of(row: Row) -> Asked:
    """Cut a row where its last answer begins.

    Args:
        row: a prompt and an answer at its end; earlier turns may be targets too.

    Returns:
        The prompt, and the row with the last answer as its only target.
    """
    before = np.flatnonzero(~row.is_answer)
    n_prompt = int(before[-1]) + 1 if len(before) else 1
    return Asked(row.token_ids[:n_prompt], row_of(row.token_ids, n_prompt))


def sample_answers(
    model: Any, prompts: Sequence[npt.NDArray[np.int64]], *, sampling: Sampling, seed: int
) -> list[Row]:
    """Let the student answer each question several times.

    Args:
        model: a causal language model of transformers.
        prompts: at least one.
        sampling: how.
        seed: of the draws of the whole batch.

    Returns:
        `sampling.samples` rows a prompt, side by side; the end of turn is part of an answer that
        the student ended.
    """
    with extra("train"):
        import torch
        from transformers import LogitsProcessorList
    prompts = [prompt for prompt in prompts for _ in range(sampling.samples)]
    ids, mask = pad_left(prompts, pad_id=sampling.pad_id)
    with _alone(model), torch.inference_mode():
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=torch.from_numpy(ids).to(model.device),
            attention_mask=torch.from_numpy(mask).to(model.device),
            generation_config=_settings(sampling),
            logits_processor=LogitsProcessorList([_Race(sampling)]),
        )
    answers = out[:, ids.shape[1] :].cpu().numpy()
    return [_row(prompt, answer, sampling) for prompt, answer in zip(prompts, answers, strict=True)]


class _Race:
    """Draws a token as the winner of a race of exponential times, quicker than `multinomial`."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature, self.forbidden = sampling.temperature, list(sampling.forbidden)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        scores = scores.float() / self.temperature
        scores[:, self.forbidden] = -torch.inf
        return scores - torch.empty_like(scores).exponential_().clamp_(min=1e-30).log_()


def _settings(sampling: Sampling) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,  # the race below has a winner
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=list(sampling.eos_ids),
        pad_token_id=sampling.pad_id,
        use_cache=True,
    )


@contextmanager
def _alone(model: Any) -> Iterator[None]:
    """Sample without dropout, the folder's sampling settings, or the caller's random numbers."""
    from transformers import GenerationConfig

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before, was_training = inner.generation_config, model.training
    inner.generation_config = GenerationConfig()
    model.eval()
    try:
        with own_randomness(model):
            yield
    finally:
        inner.generation_config = before
        model.train(was_training)


def _row(prompt: npt.NDArray[np.int64], answer: npt.NDArray[np.int64], sampling: Sampling) -> Row:
    ends = np.flatnonzero(np.isin(answer, sampling.eos_ids))
    kept = answer[: int(ends[0]) + 1] if len(ends) else answer
    return row_of(np.concatenate([prompt, kept]), len(prompt))
