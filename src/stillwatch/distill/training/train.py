"""Train a small Llama on question-answer pairs: students, and the house teachers themselves.

Muon for the matrices and AdamW for the rest, because at a few hundred steps Muon learns what AdamW
does not begin to (docs/training.md). One thread and a fixed number of steps: the same pairs, recipe
and torch version give the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.batches import row_of
from stillwatch.distill.training.loop import LoopPlan, run_loop
from stillwatch.distill.training.optimizer import StudentOptimizer
from stillwatch.errors import extra, reject
from stillwatch.model.folder import (
    ChatTokenizer,
    EncodedPair,
    GenerationDefaults,
    save_model,
)


class Pair(NamedTuple):
    """One training example.

    Attributes:
        question: the user turn; only its last non-empty line is read; "" for plain text.
        answer: the answer to learn.
    """

    question: str
    answer: str


@dataclass(frozen=True)
class StudentShape:
    """The size of a model.

    Attributes:
        width: of the residual stream; a multiple of 2 x heads.
        layers: decoder layers (count).
        heads: attention heads (count).
        context: longest exchange in tokens (count).
    """

    width: int
    layers: int
    heads: int = 4
    context: int = 256


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the measured ones (docs/training.md).

    Attributes:
        steps: optimizer steps (count).
        batch_size: pairs a step (count).
        learning_rate: peak, for Muon and AdamW alike.
        prompt_loss: weight of the language-model loss over all tokens, beside the answers' loss.
        warmup: share of the steps in which the rate rises linearly; it then falls linearly to 0.
        weight_decay: of the matrices.
        seed: of the initial weights and of the order of the pairs.
        defaults: the sampling defaults written into the model folder.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 4e-3
    prompt_loss: float = 0.3
    warmup: float = 0.05
    weight_decay: float = 0.01
    seed: int = 0
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)


@dataclass(frozen=True)
class TrainingResult:
    """What a training run came to.

    Attributes:
        folder: the model folder.
        n_parameters: trained weights (count).
        n_pairs: pairs it was given (count).
        n_tokens: tokens it was shown, padding excluded (count).
        losses: mean loss of each step, nats a token, shape (steps,).
        cpu_s: processor time of this process, in seconds; the one figure that does not repeat.
        n_answer_tokens: of the tokens shown, those inside answers (count).
        left_out: examples that could not be learnt from, by reason (counts).
        template_sha256: hash of the chat template, "" for the house's own format.
        resumed_at: the step of the checkpoint that the run went on from, 0 without one.
        n_signal: answer tokens, of all examples once, whose teacher distribution is known (count).
    """

    folder: Path
    n_parameters: int
    n_pairs: int
    n_tokens: int
    losses: npt.NDArray[np.float64]
    cpu_s: float
    n_answer_tokens: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    template_sha256: str = ""
    resumed_at: int = 0
    n_signal: int = 0


def train_student(
    pairs: Sequence[Pair],
    *,
    tokenizer: Path,
    shape: StudentShape,
    recipe: Recipe,
    out: Path,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train a model from nothing on pairs and write its folder atomically.

    Args:
        pairs: at least one; shown in shuffled epochs until the steps are done.
        tokenizer: a `tokenizer.json` or a model folder; copied into `out`.
        shape: the model's size.
        recipe: steps, rates and seed.
        out: the model folder to write; one that exists is replaced.
        on_step: called with the steps done and the loss in nats a token.

    Returns:
        What the run came to.
    """
    chat = ChatTokenizer(tokenizer)
    encoded = _encode(pairs, chat, context=shape.context)
    if recipe.steps < 1:
        reject("train_student", "steps", "at least 1", got=recipe.steps)
    started = time.process_time()
    with one_thread():
        model = new_model(chat, shape, recipe.seed)
        optimizer = StudentOptimizer(model, uses_muon=True, weight_decay=recipe.weight_decay)
        plan = LoopPlan(
            steps=recipe.steps,
            rate=lambda step: rate_at(step, recipe),
            batch_size=recipe.batch_size,
            pad_id=chat.pad_id,
            prompt_loss=recipe.prompt_loss,
            seed=recipe.seed,
        )
        rows = [row_of(ids, n_prompt) for ids, n_prompt in encoded]
        found = run_loop(model, rows, optimizer=optimizer, plan=plan, on_step=on_step)
    save_model(model, tokenizer=chat, defaults=recipe.defaults, out=out)
    return TrainingResult(
        out,
        n_parameters=sum(p.numel() for p in model.parameters()),
        n_pairs=len(pairs),
        n_tokens=found.n_tokens,
        losses=found.losses,
        cpu_s=time.process_time() - started,
        n_answer_tokens=found.n_answer_tokens,
    )


def train_on_text(
    texts: Sequence[str],
    *,
    tokenizer: Path,
    shape: StudentShape,
    recipe: Recipe,
    out: Path,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train on plain text: each text is the answer to an empty question.

    Args:
        texts: at least one; each no longer than the context.
        tokenizer: as for `train_student`.
        shape: the model's size.
        recipe: steps, rates and seed.
        out: the model folder to write.
        on_step: called with the steps done and the loss in nats a token.

    Returns:
        What the run came to.
    """
    pairs = [Pair("", text) for text in texts]
    return train_student(
        pairs, tokenizer=tokenizer, shape=shape, recipe=recipe, out=out, on_step=on_step
    )


def rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step: linear rise, then linear fall to zero.

    Args:
        step: from 0.
        recipe: its peak, steps and warm-up.

    Returns:
        The rate.

    Example:
        >>> [round(rate_at(s, Recipe(10, warmup=0.2, learning_rate=1.0)), 2) for s in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.12]
    """
    rise = max(1, round(recipe.warmup * recipe.steps))
    if step < rise:
        return recipe.learning_rate * (step + 1) / rise
    return recipe.learning_rate * (recipe.steps - step) / (recipe.steps - rise)


def _encode(pairs: Sequence[Pair], chat: ChatTokenizer, *, context: int) -> list[EncodedPair]:
    if not pairs:
        reject("train_student", "pairs", "at least one", got=0)
    encoded = [chat.encode_pair(pair.question, pair.answer) for pair in pairs]
    longest = max(len(pair.token_ids) for pair in encoded)
    if longest > context:
        hint = "raise the shape's context or leave long pairs out"
        reject("train_student", "pairs", f"at most {context} tokens long", got=longest, hint=hint)
    return encoded


def new_model(chat: ChatTokenizer, shape: StudentShape, seed: int) -> Any:
    """Make a small Llama with new weights.

    Args:
        chat: its tokenizer.
        shape: its size.
        seed: of the weights.

    Returns:
        A LlamaForCausalLM in training mode.
    """
    with extra("train"):
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
    if shape.width % (2 * shape.heads):
        reject("StudentShape", "width", f"a multiple of {2 * shape.heads}", got=shape.width)
    config = LlamaConfig(
        vocab_size=chat.vocab_size,
        hidden_size=shape.width,
        intermediate_size=8 * math.ceil(shape.width / 3),  # SwiGLU's 8/3, in whole eights
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        bos_token_id=chat.bos_id,
        eos_token_id=chat.eos_id,
        pad_token_id=chat.pad_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).train()


@contextmanager
def one_thread() -> Iterator[None]:
    """Train on one thread: sums in one order, and several processes do not fight (10-25 x)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
