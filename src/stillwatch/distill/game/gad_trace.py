"""How a game went, step by step."""

from __future__ import annotations

import msgspec


class GameTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The game step by step; every list but the first has one entry a student's step.

    Attributes:
        opening: the discriminator's loss on its own steps before the game, nats a pair.
        told_apart: share of pairs in which it scores the teacher above the student's sample.
        margin: the teacher's score minus the samples', mean.
        discriminator: its loss, nats a pair (log 2 = cannot tell).
        nats: of the student's own samples under itself, nats a token: an estimate of its entropy.
        n_tokens: tokens of its samples, mean (end of turn included).
        ended: share of its samples that it ended itself.
        silent: share of questions whose samples all score alike and teach nothing.
        kl: divergence from the warmed-up student, nats a token; [] where `kl` is 0.
    """

    opening: list[float] = []
    told_apart: list[float] = []
    margin: list[float] = []
    discriminator: list[float] = []
    nats: list[float] = []
    n_tokens: list[float] = []
    ended: list[float] = []
    silent: list[float] = []
    kl: list[float] = []
