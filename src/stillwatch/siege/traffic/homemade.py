"""Pools made up from a small grammar, so that tests and first trials need no data folder.

Words are made of syllables, a topic has words of its own, and a question is a few of them between
ordinary ones. Good for seeing that code runs and tells webs from crowds; figures to be told come
from real questions.
"""

from __future__ import annotations

import re
from random import Random

from stillwatch.siege.traffic.pools import SEED_BASE, Pool, Pools, make_pool

_SYLLABLES = re.findall(
    r"\w+",
    "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za bre cla dri flo gru pla sko "
    "tre vla sti mor len dan rik sol tem nor",
)
_ORDINARY = re.findall(
    r"\w+",
    "the a my our this that which when where how much many for with without from into about after "
    "before between need want make find keep change compare explain write list give show fix best "
    "new old good long short small large first last easy cheap safe same other next three ten why",
)


def home_made(families: str = "tuning", *, n_questions: int = 1_500) -> Pools:
    """Make pools up.

    Args:
        families: "tuning" or "report"; they share no topic.
        n_questions: questions of each pool (count).

    Returns:
        Three pools of people's questions, three of a copier's, one of public prompts; the same
        for the same arguments.
    """
    rng = Random(SEED_BASE[families] + 11)
    names = [f"{kind} {i}" for kind in ("human", "harvest") for i in range(3)]
    pools = [_pool(name, rng, n_questions) for name in names]
    public = make_pool(
        "public", [(" ".join(_sentence(rng, _words(rng, 30)) for _ in range(8)), None)
                   for _ in range(60)]
    )  # fmt: skip
    return Pools(tuple(pools[:3]), tuple(pools[3:]), public)


def _pool(name: str, rng: Random, n: int) -> Pool:
    topics = [_words(rng, 40) for _ in range(max(4, n // 25))]
    labelled: list[tuple[str, str | None]] = []
    for number in range(n):
        own = topics[number % len(topics)]
        figures = 0.9 if name.startswith("harvest") else 0.3  # exercises have more of them
        n_sentences = rng.choice((1, 1, 2, 4))
        text = " ".join(_sentence(rng, own, figures=figures) for _ in range(n_sentences))
        labelled.append((text, f"{number % len(topics)}"))
    return make_pool(name, labelled)


def _words(rng: Random, n: int) -> list[str]:
    return ["".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 3)))) for _ in range(n)]


def _sentence(rng: Random, own: list[str], *, figures: float = 0.0) -> str:
    words = [rng.choice(own) if rng.random() < 0.45 else rng.choice(_ORDINARY) for _ in range(11)]
    if rng.random() < figures:
        words.insert(rng.randrange(11), str(rng.randint(2, 900)))
    return " ".join(words[: rng.randint(6, len(words))]).capitalize() + rng.choice("??.")
