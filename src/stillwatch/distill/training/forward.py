"""Forward passes of a model in training: precision, chosen places only, randomness of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.distill.training.batches import Batch


class Reading(NamedTuple):
    """What a model says at chosen places of a batch.

    Attributes:
        logits: shape (n_places, vocabulary), float32.
        states: what the output layer saw, shape (n_places, width), float32.
    """

    logits: Any
    states: Any


def read_at(model: Any, batch: Batch, places: npt.NDArray[np.int64], *, precision: str) -> Reading:
    """Run a model over a batch and look at chosen places only.

    Args:
        model: a causal language model of transformers.
        batch: right-padded rows.
        places: indices into the flattened batch, shape (n_places,); the logits there are of the
            token that follows.
        precision: "float32" or "bfloat16".

    Returns:
        Logits and states there; a large vocabulary costs nothing elsewhere.
    """
    import torch

    device = model.device
    index = torch.from_numpy(places).to(device)
    # Right padding under a causal mask: no real token ever looks at a pad, so no mask is needed.
    with in_precision(precision, device), looking_at(model, index) as seen:
        ids = torch.from_numpy(batch.token_ids).to(device)
        logits = model(input_ids=ids, use_cache=False).logits
    return Reading(logits.flatten(0, 1).float(), seen[0].float())


@contextmanager
def looking_at(model: Any, index: Any) -> Iterator[list[Any]]:
    """Let the output layer see the chosen places alone, and keep what it saw.

    Logits of a large vocabulary outweigh everything else, and most of them would be thrown away.

    Args:
        model: a causal language model of transformers.
        index: places in the flattened batch, int64, on the model's device.

    Yields:
        What the output layer saw, one entry a forward pass.
    """
    seen: list[Any] = []

    def choose(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.append(args[0].flatten(0, 1)[index])
        return (seen[-1][None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield seen
    finally:
        handle.remove()


def in_precision(precision: str, device: Any) -> AbstractContextManager[Any]:
    """Compute in a precision.

    Args:
        precision: "float32" or "bfloat16".
        device: torch's, where it is computed.

    Returns:
        To be entered around forward passes.
    """
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def own_randomness(model: Any) -> Iterator[None]:
    """Leave the caller's random generators as they were.

    Args:
        model: whose device's generator is kept apart too.

    Yields:
        Nothing; what is drawn inside leaves no trace.
    """
    import torch

    devices = [model.device.index or 0] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
