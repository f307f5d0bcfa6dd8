"""The `[train]` table of a run: which student, which method, how long, on what."""

from __future__ import annotations

from typing import Literal

import msgspec

from stillwatch.errors import reject


class StudentTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[train.student]`: what is trained.

    One of three: a `folder` with weights (any causal language model), a `config` that new weights
    are made from (any architecture), or neither: a small house model of `width` and `layers`.

    Attributes:
        folder: a model folder in the Hugging Face shape, whose weights training starts from.
        config: a `config.json`, or a folder that holds one; needs `tokenizer`.
        tokenizer: a `tokenizer.json` or a folder; "" takes the student folder's own, and for a
            house model one that is made from the examples.
        vocabulary: of a house model's own tokenizer: 0 for one token a character, else byte pairs.
        template: a chat template's file; "" takes the folder's own, or the plain one without.
        width: of a house model's residual stream.
        layers: of a house model.
        heads: of a house model.
        context: longest exchange of a house model, in tokens (count).
    """

    folder: str = ""
    config: str = ""
    tokenizer: str = ""
    vocabulary: int = 0
    template: str = ""
    width: int = 56
    layers: int = 2
    heads: int = 4
    context: int = 256

    def __post_init__(self) -> None:
        where = "[train.student]"
        if self.folder and self.config:
            reject(where, "folder", "given without config", got="both", hint="keep one of them")
        if self.config and not self.tokenizer:
            reject(where, "tokenizer", "given beside config", got="")
        if self.vocabulary and self.vocabulary < 300:
            reject(where, "vocabulary", "0 or at least 300", got=self.vocabulary)
        for name in ("width", "layers", "heads", "context"):
            if getattr(self, name) < 1:
                reject(where, name, "at least 1", got=getattr(self, name))

    @property
    def is_house(self) -> bool:
        """Whether the student is a small house model, made from nothing."""
        return not self.folder and not self.config


class LoraTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[train.lora]`: train low-rank adapters instead of all weights; they are merged at the end.

    Attributes:
        rank: of the adapters.
        alpha: their scale, over the rank.
        dropout: of their input, 0..1.
        targets: names of the modules that get one; () takes every linear layer but the last.
        merge: write whole weights; False writes the adapter beside a pointer to its base.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    merge: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1:
            reject("[train.lora]", "rank", "at least 1", got=self.rank)
        if not 0 <= self.dropout < 1:
            reject("[train.lora]", "dropout", "at least 0 and below 1", got=self.dropout)


class TopKTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[train.topk]`: learning from the teacher's recorded log-probabilities.

    Attributes:
        beta: 0 is the forward divergence (teacher to student), 1 the reverse, between them the
            generalised Jensen-Shannon divergence.
        temperature: both distributions are softened by it.
        tail: put the mass outside the recorded tokens into one more bucket; without it both sides
            are renormalised over the recorded ones.
        weight: share of the divergence; the rest is cross-entropy on the teacher's tokens.
    """

    beta: float = 0.0
    temperature: float = 1.0
    tail: bool = True
    weight: float = 1.0

    def __post_init__(self) -> None:
        where = "[train.topk]"
        for name in ("beta", "weight"):
            if not 0 <= getattr(self, name) <= 1:
                reject(where, name, "between 0 and 1", got=getattr(self, name))
        if self.temperature <= 0:
            reject(where, "temperature", "above 0", got=self.temperature)


class TrainTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[train]` table.

    Attributes:
        method: "sequence" learns the teacher's texts, "topk" its recorded log-probabilities too,
            "gad" is the black-box on-policy method, configured by `[gad]`.
        trainer: "own" is the package's loop, "trl" goes through TRL and accelerate.
        at: budgets of questions to train at; () trains once, on everything.
        seeds: one student a budget and seed.
        steps: optimizer steps (count); 0 leaves it to `epochs`, or, for a house model, to 900.
        epochs: times that each example is shown; used when `steps` is 0; 0 stands for 3.
        batch_size: examples of one forward pass (count).
        accumulate: forward passes a step (count).
        learning_rate: peak; 0 stands for 4e-3 (Muon), 2e-5 (AdamW) or 2e-4 (LoRA).
        optimizer: "auto" is Muon for new weights and AdamW for trained ones and adapters.
        schedule: after the warm-up the rate falls to 0 linearly or as a cosine, or stays.
        warmup: share of the steps in which the rate rises.
        weight_decay: of the matrices.
        clip: largest norm of a step's gradient; 0 never clips.
        prompt_loss: weight of the loss over all tokens beside the answers'; -1 stands for 0.3 with
            a house model and 0 else.
        max_tokens: longest exchange, longer ones are left out and counted; 0 is the model's own.
        loss_on: "answer" or "assistant": the teacher's answer alone, or every assistant turn.
        device: "cpu", "cuda", "cuda:1"; "auto" takes a GPU where there is one.
        precision: "float32", "bfloat16" (autocast) or "auto": bfloat16 on a GPU.
        gradient_checkpointing: trade time for memory.
        save_every: steps between checkpoints, from which a killed run goes on; 0 writes none.
        temperature: written into the student's folder as its own sampling default; 0 is greedy.
        max_new_tokens: likewise, where an answer is cut; 0 stands for the longest seen, doubled.
    """

    method: Literal["sequence", "topk", "gad"] = "sequence"
    trainer: Literal["own", "trl"] = "own"
    at: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 0
    epochs: float = 0.0
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 0.0
    optimizer: Literal["auto", "muon", "adamw"] = "auto"
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    prompt_loss: float = -1.0
    max_tokens: int = 0
    loss_on: Literal["answer", "assistant"] = "answer"
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    save_every: int = 0
    temperature: float = 0.0
    max_new_tokens: int = 0
    student: StudentTable = StudentTable()
    lora: LoraTable | None = None
    topk: TopKTable = TopKTable()

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_shares(self)
        if self.lora is not None and not self.student.folder:
            hint = "adapters stand on trained weights: give student.folder, or leave lora out"
            reject("[train]", "lora", "used with student.folder", got="no folder", hint=hint)

    @property
    def uses_muon(self) -> bool:
        """Whether the matrices are moved by Muon."""
        if self.optimizer == "auto":
            return not self.student.folder
        return self.optimizer == "muon"

    @property
    def peak_rate(self) -> float:
        """The learning rate's peak, the default filled in."""
        if self.learning_rate > 0:
            return self.learning_rate
        if self.uses_muon:
            return 4e-3
        return 2e-4 if self.lora is not None else 2e-5

    @property
    def prompt_share(self) -> float:
        """The weight of the loss over all tokens, the default filled in."""
        if self.prompt_loss >= 0:
            return self.prompt_loss
        return 0.3 if self.student.is_house else 0.0

    def steps_for(self, n_examples: int) -> int:
        """Count the optimizer steps of a training run.

        Args:
            n_examples: examples that it learns from (count).

        Returns:
            Steps (count, at least 1).

        Example:
            >>> TrainTable(epochs=2, batch_size=10).steps_for(95)
            19
        """
        if self.steps:
            return self.steps
        if self.student.is_house and not self.epochs:
            return 900
        shown = (self.epochs or 3.0) * n_examples
        return max(1, round(shown / (self.batch_size * self.accumulate)))


def _check_counts(table: TrainTable) -> None:
    for name in ("batch_size", "accumulate"):
        if getattr(table, name) < 1:
            reject("[train]", name, "at least 1", got=getattr(table, name))
    for name in ("steps", "epochs", "learning_rate", "weight_decay", "clip", "max_tokens"):
        if getattr(table, name) < 0:
            reject("[train]", name, "at least 0", got=getattr(table, name))
    for name in ("save_every", "max_new_tokens"):
        if getattr(table, name) < 0:
            reject("[train]", name, "at least 0", got=getattr(table, name))
    if not table.seeds or len(set(table.seeds)) < len(table.seeds):
        reject("[train]", "seeds", "at least one, all different", got=list(table.seeds))
    if any(n < 1 for n in table.at) or list(table.at) != sorted(set(table.at)):
        reject("[train]", "at", "rising numbers of questions, from 1", got=list(table.at))


def _check_shares(table: TrainTable) -> None:
    if not 0 <= table.warmup <= 1:
        reject("[train]", "warmup", "between 0 and 1", got=table.warmup)
    if not 0 <= table.temperature <= 2:
        reject("[train]", "temperature", "between 0 and 2", got=table.temperature)
    if table.prompt_loss < 0 and table.prompt_loss != -1:
        reject("[train]", "prompt_loss", "at least 0, or -1", got=table.prompt_loss)
    if table.device not in {"auto", "cpu", "cuda"} and not table.device.startswith("cuda:"):
        reject("[train]", "device", "auto, cpu, cuda or cuda:N", got=table.device)
