"""Checkpoints of a training run: one file that appears whole, and belongs to one run only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillwatch.errors import EnvironmentUnfitError, extra
from stillwatch.record.exchange import canonical_json

_LOSSES = "run.losses"


class Checkpoint(NamedTuple):
    """Where a run stood.

    Attributes:
        step: steps done (count).
        n_tokens: tokens shown until then (count).
        losses: of the steps done, shape (step,), float64.
        tensors: weights and the optimizer's state by name.
    """

    step: int
    n_tokens: int
    losses: npt.NDArray[np.float64]
    tensors: dict[str, Any]


def checkpoint_path(out: Path) -> Path:
    """Where the checkpoint of a student lies: beside the folder that it will become.

    Args:
        out: the student's folder.

    Returns:
        A hidden file in the folder's parent.
    """
    return out.with_name(f".{out.name}.checkpoint")


def fingerprint(settings: object, rows: Iterable[bytes]) -> str:
    """Hash what a run depends on; a checkpoint of another run is never continued.

    Args:
        settings: plain data: the table, the seed, versions.
        rows: the bytes of each example's token ids and mask.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256(canonical_json(settings).encode())
    for row in rows:
        digest.update(hashlib.sha256(row).digest())
    return digest.hexdigest()


def write_checkpoint(path: Path, checkpoint: Checkpoint, *, run: str) -> None:
    """Write a checkpoint over the one before, atomically.

    Args:
        path: as `checkpoint_path` gives it.
        checkpoint: where the run stands.
        run: its fingerprint.

    Raises:
        EnvironmentUnfitError: the disk refuses; the checkpoint before is untouched.
    """
    with extra("train"):
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    tensors = {
        name: tensor.detach().to("cpu").contiguous() for name, tensor in checkpoint.tensors.items()
    }
    tensors[_LOSSES] = torch.from_numpy(checkpoint.losses.copy())
    about = {"run": run, "step": checkpoint.step, "n_tokens": checkpoint.n_tokens}
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(part), metadata={"about": json.dumps(about)})
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        message = f"{path}: the checkpoint cannot be written: {error}"
        raise EnvironmentUnfitError(message, hint="is the disk full?") from error


def read_checkpoint(path: Path, *, run: str) -> Checkpoint | None:
    """Read a checkpoint of this run.

    Args:
        path: as `checkpoint_path` gives it.
        run: the run's fingerprint.

    Returns:
        Where it stood; None when there is no file, or it is another run's, or it is damaged, for
        then the run begins anew and loses nothing but time.
    """
    with extra("train"):
        from safetensors import SafetensorError, safe_open
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("run") != run:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, ValueError, SafetensorError):
        return None
    losses = np.asarray(tensors.pop(_LOSSES).numpy(), dtype=np.float64)
    return Checkpoint(int(about["step"]), int(about["n_tokens"]), losses, tensors)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint once the student stands.

    Args:
        path: as `checkpoint_path` gives it; it need not exist.
    """
    path.unlink(missing_ok=True)


def trained_tensors(model: Any) -> Mapping[str, Any]:
    """Name what training changes: weights with gradients, tied ones once, and stored buffers.

    Args:
        model: a torch module.

    Returns:
        Tensors by name; writing into them changes the model.
    """
    stored = model.state_dict(keep_vars=True)
    found = {f"model.{n}": p for n, p in model.named_parameters() if p.requires_grad}
    return found | {f"buffer.{n}": b for n, b in model.named_buffers() if n in stored}
