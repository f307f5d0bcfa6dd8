"""Where a game stood: both models, their optimizers, the order, and the random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stillwatch.distill.game.gad_trace import GameTrace
from stillwatch.distill.training.checkpoints import (
    Checkpoint,
    checkpoint_path,
    read_checkpoint,
    remove_checkpoint,
    trained_tensors,
    write_checkpoint,
)
from stillwatch.distill.training.loop import LoopResult

if TYPE_CHECKING:
    from stillwatch.distill.game.gad_game import Game

_ABOUT, _WARM = "game.about", "warm.losses"


class _About(msgspec.Struct, frozen=True, kw_only=True):
    """What of a game is no tensor."""

    n_draws: int
    n_answer_tokens: int
    trace: GameTrace
    warm_tokens: int
    warm_answer_tokens: int


class GameKeeper:
    """Writes a game's checkpoints and puts a game back to where one stood.

    Args:
        out: the student's folder; the checkpoint lies beside it.
        run: the run's fingerprint, the game's settings included.
        every: steps between checkpoints, the discriminator's own among them (count); 0 neither
            writes nor reads any.

    Attributes:
        found: where an earlier process stood, or None.
        warm: what the warm-up came to; every checkpoint of the game carries it.
    """

    def __init__(self, out: Path, *, run: str, every: int) -> None:
        self._path = game_checkpoint_path(out)
        self._run, self._every = run, every
        self.found = read_checkpoint(self._path, run=run) if every else None
        self.warm = LoopResult(np.zeros(0), 0, 0, 0)
        self._last = 0
        if self.found is not None:
            about = _about(self.found)
            losses = self.found.tensors[_WARM].numpy()
            self.warm = LoopResult(losses, about.warm_tokens, about.warm_answer_tokens, 0)

    def restore(self, game: Game) -> None:
        """Put a game back to where the checkpoint that was found stood.

        Args:
            game: new, of the same run; unchanged when there is no checkpoint.
        """
        found = self.found
        if found is None:
            return
        about = _about(found)
        game.step, game.n_tokens = found.step, found.n_tokens
        game.losses[: found.step] = found.losses
        game.n_answer_tokens, game.trace = about.n_answer_tokens, about.trace
        game.skip_draws(about.n_draws)
        for prefix, model in _models(game).items():
            _copy(model, _under(prefix, found.tensors))
        game.optimizer.restore(_under("student.by.", found.tensors))
        game.discriminator.optimizer.restore(_under("judge.by.", found.tensors))
        _set_randomness(_under("random.", found.tensors))
        self._last = len(game.trace.opening) + game.step

    def offer(self, game: Game) -> None:
        """Write a checkpoint when enough steps were taken since the last.

        Args:
            game: between two rounds.
        """
        done = len(game.trace.opening) + game.step
        if not self._every or done // self._every == self._last // self._every:
            return
        self._last = done
        about = _About(
            n_draws=game.n_draws,
            n_answer_tokens=game.n_answer_tokens,
            trace=game.trace,
            warm_tokens=self.warm.n_tokens,
            warm_answer_tokens=self.warm.n_answer_tokens,
        )
        tensors = _tensors(game) | _plain(about, self.warm)
        here = Checkpoint(game.step, game.n_tokens, game.losses[: game.step], tensors)
        write_checkpoint(self._path, here, run=self._run)

    def remove(self) -> None:
        """Remove the checkpoint once the student stands."""
        remove_checkpoint(self._path)


def game_checkpoint_path(out: Path) -> Path:
    """Where a game's checkpoint lies: beside the folder, and beside the warm-up's.

    Args:
        out: the student's folder.

    Returns:
        A hidden file in the folder's parent.
    """
    return checkpoint_path(out.with_name(f"{out.name}.game"))


def _models(game: Game) -> dict[str, Any]:
    found = {"student.": game.model, "judge.": game.discriminator.model}
    return found if game.reference is None else {**found, "reference.": game.reference}


def _tensors(game: Game) -> dict[str, Any]:
    found = {
        f"{prefix}{name}": tensor
        for prefix, model in _models(game).items()
        for name, tensor in trained_tensors(model).items()
    }
    for prefix, optimizer in (
        ("student.by.", game.optimizer),
        ("judge.by.", game.discriminator.optimizer),
    ):
        found |= {f"{prefix}{name}": tensor for name, tensor in optimizer.tensors().items()}
    return found | _randomness(game.model.device)


def _plain(about: _About, warm: LoopResult) -> dict[str, Any]:
    import torch

    told = np.frombuffer(msgspec.json.encode(about), np.uint8).copy()
    return {_ABOUT: torch.from_numpy(told), _WARM: torch.from_numpy(warm.losses.copy())}


def _about(found: Checkpoint) -> _About:
    return msgspec.json.decode(found.tensors[_ABOUT].numpy().tobytes(), type=_About)


def _under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _copy(model: Any, tensors: Mapping[str, Any]) -> None:
    import torch

    with torch.no_grad():
        for name, tensor in trained_tensors(model).items():
            tensor.copy_(tensors[name])


def _randomness(device: Any) -> dict[str, Any]:
    """The generators that dropout draws from."""
    import torch

    found = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["random.cuda"] = torch.cuda.get_rng_state(device)
    return found


def _set_randomness(states: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
