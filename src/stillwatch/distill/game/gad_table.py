"""The `[gad]` table of a run: the black-box on-policy method."""

from __future__ import annotations

from typing import Literal

import msgspec

from stillwatch.errors import reject


class GadTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gad]`: a discriminator tells teacher from student, and the student learns to pass.

    Steps, batch, device, precision, schedule and clipping of gradients are those of `[train]`.

    Attributes:
        warmup: share of `train.steps` that learns the teacher's texts first, 0..1; the others are
            adversarial. 1 is sequence-level training.
        samples: answers that the student gives to a question (count, at least 2); a forward pass
            holds `train.batch_size` of them, so it holds `batch_size / samples` questions.
        temperature: at which the student samples and its probabilities are taken, above 0.
        max_new_tokens: where its samples are cut; 0 stands for the teacher's longest answer.
        updates: steps of the student on one set of samples (count); from the second on the ratio
            to the sampling student departs from 1 and is clipped. Samples are drawn every so many
            steps.
        clip: how far that ratio may depart and still be rewarded, above 0.
        scale: "group" divides a sample's distance from its question's mean by that question's
            standard deviation, as the paper does; "batch" by that of all questions of the step,
            so that questions on which the discriminator hardly has an opinion weigh little.
        kl: weight of the divergence from the warmed-up student; 0 keeps no copy of it.
        anchor: weight of the sequence-level loss on the same questions beside the policy's; the
            paper has none.
        learning_rate: of the student's adversarial steps (AdamW); 0 stands for a
            twentieth of `train.learning_rate`, or an eightieth where that is Muon's.
        discriminator_rate: of the discriminator's steps (AdamW), constant; 0 stands for a
            quarter of `train.learning_rate`.
        discriminator_steps: its own steps against the warmed-up student, before the game (count);
            -1 stands for a tenth of `train.steps`.
        score_at: "last" scores an answer by the state after its last token, as the paper does,
            "mean" by the mean over its tokens.
    """

    warmup: float = 0.8
    samples: int = 4
    temperature: float = 1.0
    max_new_tokens: int = 0
    updates: int = 1
    clip: float = 0.2
    scale: Literal["group", "batch"] = "group"
    kl: float = 0.0
    anchor: float = 0.0
    learning_rate: float = 0.0
    discriminator_rate: float = 0.0
    discriminator_steps: int = -1
    score_at: Literal["last", "mean"] = "last"

    def __post_init__(self) -> None:
        where = "[gad]"
        if not 0 <= self.warmup <= 1:
            reject(where, "warmup", "between 0 and 1", got=self.warmup)
        if self.samples < 2:
            hint = "a sample is judged by the others of its question"
            reject(where, "samples", "at least 2", got=self.samples, hint=hint)
        if not 0 < self.temperature <= 2:
            reject(where, "temperature", "above 0 and at most 2", got=self.temperature)
        if self.clip <= 0:
            reject(where, "clip", "above 0", got=self.clip)
        if self.updates < 1:
            reject(where, "updates", "at least 1", got=self.updates)
        for name in ("max_new_tokens", "kl", "anchor", "learning_rate", "discriminator_rate"):
            if getattr(self, name) < 0:
                reject(where, name, "at least 0", got=getattr(self, name))
        if self.discriminator_steps < -1:
            reject(where, "discriminator_steps", "at least 0, or -1", got=self.discriminator_steps)
