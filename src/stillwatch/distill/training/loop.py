"""The training loop: steps, accumulated batches, precision, checkpoints. Model and data come in.

Steps are counted, never seconds. Every step seeds its own randomness, so a run that went on from a
checkpoint is the run that never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.batches import Batch, Row, batch_order, pad_rows
from stillwatch.distill.training.checkpoints import (
    Checkpoint,
    read_checkpoint,
    trained_tensors,
    write_checkpoint,
)
from stillwatch.distill.training.forward import in_precision, looking_at, own_randomness
from stillwatch.distill.training.losses import token_nats, topk_divergence
from stillwatch.distill.training.optimizer import StudentOptimizer
from stillwatch.distill.training.train_table import TopKTable

#: From this vocabulary on, logits are computed at the targets alone: they outweigh the model.
_WIDE_VOCABULARY = 4096


@dataclass(frozen=True, kw_only=True)
class LoopPlan:
    """How the loop runs.

    Attributes:
        steps: optimizer steps (count).
        rate: the learning rate of a step, from 0.
        batch_size: rows of a forward pass (count).
        accumulate: forward passes a step (count).
        pad_id: fills short rows.
        prompt_loss: weight of the loss over all tokens.
        seed: of the order of the rows, and of dropout.
        precision: "float32" or "bfloat16".
        topk: how the teacher's distributions count, or None.
        checkpoint: the file to write and to go on from, or None.
        save_every: steps between checkpoints; 0 writes none.
        run: the fingerprint that a checkpoint must carry.
    """

    steps: int
    rate: Callable[[int], float]
    batch_size: int
    pad_id: int
    accumulate: int = 1
    prompt_loss: float = 0.0
    seed: int = 0
    precision: str = "float32"
    topk: TopKTable | None = None
    checkpoint: Path | None = None
    save_every: int = 0
    run: str = ""


class LoopResult(NamedTuple):
    """What the loop came to.

    Attributes:
        losses: mean loss of each step, nats a token, shape (steps,).
        n_tokens: tokens shown, padding excluded (count).
        n_answer_tokens: of these inside answers, in the steps that this process ran (count).
        resumed_at: the step that it went on from, 0 without a checkpoint.
    """

    losses: npt.NDArray[np.float64]
    n_tokens: int
    n_answer_tokens: int
    resumed_at: int


def run_loop(
    model: Any,
    rows: Sequence[Row],
    *,
    optimizer: StudentOptimizer,
    plan: LoopPlan,
    on_step: Callable[[int, float], None] | None = None,
) -> LoopResult:
    """Train a model in place.

    Args:
        model: a causal language model on its device, in training mode.
        rows: at least one.
        optimizer: of the model.
        plan: how.
        on_step: called with the steps done and the loss in nats a token.

    Returns:
        The losses and counts.
    """
    import torch

    losses = np.zeros(plan.steps)
    start, n_tokens, n_answer = 0, 0, 0
    found = read_checkpoint(plan.checkpoint, run=plan.run) if plan.checkpoint else None
    if found is not None:
        _restore(model, optimizer, found)
        start, n_tokens = found.step, found.n_tokens
        losses[:start] = found.losses
    lengths = np.array([len(row.token_ids) for row in rows])
    order = batch_order(lengths, batch_size=plan.batch_size, seed=plan.seed)
    order = islice(order, start * plan.accumulate, None)
    with own_randomness(model):
        for step in range(start, plan.steps):
            torch.manual_seed((plan.seed * 1_000_003 + step) % 2**63)
            chosen = list(islice(order, plan.accumulate))
            batches = [pad_rows([rows[i] for i in part], pad_id=plan.pad_id) for part in chosen]
            losses[step] = _take_step(model, batches, optimizer, plan=plan, step=step)
            n_tokens += sum(int(batch.is_token.sum()) for batch in batches)
            n_answer += sum(int(batch.is_answer.sum()) for batch in batches)
            if on_step is not None:
                on_step(step + 1, float(losses[step]))
            if plan.checkpoint and plan.save_every and (step + 1) % plan.save_every == 0:
                tensors = {**trained_tensors(model), **optimizer.tensors()}
                here = Checkpoint(step + 1, n_tokens, losses[: step + 1], tensors)
                write_checkpoint(plan.checkpoint, here, run=plan.run)
    return LoopResult(losses, n_tokens, n_answer, start)


def _take_step(
    model: Any, batches: list[Batch], optimizer: StudentOptimizer, *, plan: LoopPlan, step: int
) -> float:
    """Sum the gradients of a step's batches as if they were one, and move the weights."""
    n_answer = sum(int(batch.is_answer.sum()) for batch in batches)
    n_token = sum(int(batch.is_token.sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        answers, prompts = batch_nats(model, batch, plan)
        loss = answers * (int(batch.is_answer.sum()) / n_answer)
        if plan.prompt_loss > 0:
            loss = loss + plan.prompt_loss * prompts * (int(batch.is_token.sum()) / n_token)
        loss.backward()
        total += loss.item()
    optimizer.step(plan.rate(step))
    return total


def batch_nats(model: Any, batch: Batch, plan: LoopPlan) -> tuple[Any, Any]:
    """Compute a batch's two losses.

    Args:
        model: a causal language model.
        batch: rows of one forward pass.
        plan: precision, divergence, and whether the prompt counts.

    Returns:
        Mean nats over the answers' tokens, and over all tokens (0 where the prompt does not count).
    """
    import torch

    device = model.device
    ids = torch.from_numpy(batch.token_ids)
    counted = batch.is_token if plan.prompt_loss > 0 else batch.is_answer
    flat = counted[:, 1:].reshape(-1)
    wide = model.get_output_embeddings().weight.shape[0] >= _WIDE_VOCABULARY
    where = np.flatnonzero(flat) if wide else np.arange(flat.size)
    index = torch.from_numpy(where).to(device)
    # Right padding under a causal mask: no real token ever looks at a pad, so no mask is needed.
    at_targets = looking_at(model, index) if wide else nullcontext()
    with in_precision(plan.precision, device), at_targets:
        logits = model(input_ids=ids[:, :-1].to(device), use_cache=False).logits.flatten(0, 1)
    nats = token_nats(logits, ids[:, 1:].flatten()[torch.from_numpy(where)].to(device))
    is_answer = torch.from_numpy(batch.is_answer[:, 1:].reshape(-1)[where]).to(device)
    learnt = nats
    if plan.topk is not None and batch.signal is not None:
        learnt = _with_signal(logits, nats, batch, topk=plan.topk, where=where)
    answers = learnt[is_answer].mean()
    if plan.prompt_loss <= 0:
        return answers, answers.new_zeros(())
    is_token = torch.from_numpy(batch.is_token[:, 1:].reshape(-1)[where]).to(device)
    return answers, nats[is_token].mean()


def _with_signal(
    logits: Any, nats: Any, batch: Batch, *, topk: TopKTable, where: npt.NDArray[np.int64]
) -> Any:
    """Put the divergence in the place of cross-entropy where the teacher is known."""
    import torch

    signal = batch.signal
    assert signal is not None  # the caller looked
    width = batch.token_ids.shape[1]
    flat = signal.places // width * (width - 1) + signal.places % width - 1
    places = torch.from_numpy(np.searchsorted(where, flat)).to(nats.device)
    divergence = topk_divergence(
        logits[places],
        torch.from_numpy(signal.support).to(nats.device),
        torch.from_numpy(signal.logprobs).to(nats.device),
        table=topk,
    )
    mixed = topk.weight * divergence + (1 - topk.weight) * nats[places]
    return nats.index_copy(0, places, mixed.to(nats.dtype))


def _restore(model: Any, optimizer: StudentOptimizer, found: Checkpoint) -> None:
    import torch

    with torch.no_grad():
        for name, tensor in trained_tensors(model).items():
            tensor.copy_(found.tensors[name])
    optimizer.restore(found.tensors)
