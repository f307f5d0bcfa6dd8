"""The optimizer of a student: Muon for the matrices and AdamW for the rest, or AdamW for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatch.distill.training.muon import Muon


class StudentOptimizer:
    """Moves a model's trained weights; its whole state can be saved and put back.

    Muon leaves embeddings, the output layer, norms and biases to AdamW, as in its source.

    Args:
        model: a causal language model.
        uses_muon: Muon for the matrices; else AdamW for all.
        weight_decay: of the matrices, and with AdamW of the embedding too.
        clip: largest gradient norm of a step; 0 never clips.
    """

    def __init__(
        self, model: Any, *, uses_muon: bool, weight_decay: float, clip: float = 1.0
    ) -> None:
        import torch

        trained = [p for p in model.parameters() if p.requires_grad]
        self._trained, self._clip = trained, clip
        ends = {id(m.weight) for m in _ends(model)}
        matrices = [p for p in trained if uses_muon and p.ndim == 2 and id(p) not in ends]
        taken = {id(p) for p in matrices}
        others = [p for p in trained if id(p) not in taken]
        self._muon = Muon(matrices, weight_decay=weight_decay) if matrices else None
        if uses_muon:
            groups = [{"params": others, "weight_decay": 0.0}]
            betas = (0.9, 0.95)
        else:
            groups = [
                {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay},
                {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
            ]
            betas = (0.9, 0.999)
        groups = [group for group in groups if group["params"]]
        self._adamw = torch.optim.AdamW(groups, betas=betas, foreach=True) if groups else None

    def step(self, learning_rate: float) -> None:
        """Take one step and forget the gradients.

        Args:
            learning_rate: of this step.
        """
        import torch

        if self._clip > 0:
            torch.nn.utils.clip_grad_norm_(self._trained, self._clip)
        if self._adamw is not None:
            for group in self._adamw.param_groups:
                group["lr"] = learning_rate
            self._adamw.step()
            self._adamw.zero_grad(set_to_none=True)
        if self._muon is not None:
            self._muon.step(learning_rate)

    def tensors(self) -> dict[str, Any]:
        """Give the state as named tensors.

        Returns:
            By name; empty before the first step, but for Muon's means.
        """
        found: dict[str, Any] = {}
        if self._adamw is not None:
            state = self._adamw.state_dict()["state"]
            found |= {
                f"adamw.{i}.{name}": value
                for i, kept in state.items()
                for name, value in kept.items()
            }
        if self._muon is not None:
            found |= {f"muon.{i}": mean for i, mean in enumerate(self._muon.means)}
        return found

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Put a state back.

        Args:
            tensors: as `tensors` gave them.
        """
        import torch

        if self._muon is not None:
            with torch.no_grad():
                for i, mean in enumerate(self._muon.means):
                    mean.copy_(tensors[f"muon.{i}"])
        if self._adamw is None:
            return
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "adamw":
                place, _, key = rest.partition(".")
                state.setdefault(int(place), {})[key] = value
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": state, "param_groups": groups})


def _ends(model: Any) -> list[Any]:
    found = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [module for module in found if module is not None and hasattr(module, "weight")]
