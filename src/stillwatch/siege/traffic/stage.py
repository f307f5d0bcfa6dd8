"""What members are drawn from, and the members that nobody shares anything with: persons."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from stillwatch.siege.traffic.cast import Member
from stillwatch.siege.traffic.instructions import Frame, draw_instruction, word
from stillwatch.siege.traffic.persons import Asker, Writer, draw_person
from stillwatch.siege.traffic.pools import Pools
from stillwatch.siege.traffic.seats import Seat, Town
from stillwatch.siege.traffic.times import Arrivals, draw_rhythm

#: Where applications put their instructions.
_PLACES = ("system", "system", "system", "before", "around", "after")


@dataclass(frozen=True)
class Stage:
    """What members are drawn from.

    Attributes:
        pools: the questions.
        arrivals: the patterns of time.
        town: networks and the like.
        rng: draws words and people.
        numbers: draws times.
    """

    pools: Pools
    arrivals: Arrivals
    town: Town
    rng: Random
    numbers: np.random.Generator

    def member(self, seat: Seat, asker: Asker, *, human: bool = True) -> Member:
        """Make a member whose hours, volume and beginning are like anybody's.

        Args:
            seat: of the account.
            asker: who writes.
            human: whether the hours are a person's or a program's.

        Returns:
            The member.
        """
        is_new = self.rng.random() < 0.4
        return Member(
            seat=seat,
            asker=asker,
            rhythm=draw_rhythm(self.arrivals, self.numbers, human=human),
            volume=self.rng.lognormvariate(0.0, 0.9),
            born=self.rng.random() * 0.8 if is_new else 0.0,
            is_early=not is_new,
        )

    def frame(self, *, training: float = 0.2) -> Frame:
        """Draw a new instruction in words.

        Args:
            training: share of sentences that ask for what training needs (0..1).

        Returns:
            The frame.
        """
        return word(draw_instruction(self.rng, training=training, places=_PLACES), self.rng)

    def item(self) -> str:
        """Draw an item of a pool that a copier would like too: exercises, tasks, issues.

        Returns:
            Its text.
        """
        pool = self.rng.choice(self.pools.harvest)
        return pool.questions[int(self.rng.random() * len(pool.questions))]


def persons(stage: Stage, n: int) -> list[Member]:
    """Draw unrelated accounts: people, and applications that one person runs.

    Args:
        stage: what they are drawn from.
        n: accounts (count).

    Returns:
        The members.
    """
    return [_person(stage) for _ in range(n)]


def _person(stage: Stage) -> Member:
    rng = stage.rng
    is_program = rng.random() < 0.4
    if is_program:
        # A key often serves several programs, and their prompts have versions.
        frames = [stage.frame() for _ in range(rng.choice((1, 1, 2, 3, 5)))]
    elif rng.random() < 0.15:
        # Some paste a prompt that anybody can find, and some of those paste the same one.
        frames = [Frame(rng.choice(stage.pools.public.questions)[:1_200], "", "")]
    else:
        frames = [stage.frame() for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
    # A few people ask what a copier asks: students, engineers, people who build agents.
    pools = stage.pools.harvest if rng.random() < 0.12 else stage.pools.human
    person = draw_person(rng, pools, frames=frames, is_program=is_program)
    return stage.member(stage.town.seat("person"), Writer(person), human=not is_program)
