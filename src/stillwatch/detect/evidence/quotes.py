"""Questions side by side, with the wording marked that they share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

#: Words as the fold cuts them: letters of any script, or digits.
_WORD = re.compile(r"[A-Za-z'_\u0080-\U0010ffff]+|[0-9]+")
_WIDTH = 5
#: A run of words is shared when an eighth of the texts has it, and two at least: a family may hold
#: several turns of one template.
_SHARE = 0.12
_COMMON, _PLAIN, _BESIDE = 0.02, 1.0 / 3.0, 0.3

Marks = tuple[tuple[int, int], ...]


def mark_shared(
    texts: Sequence[str], *, others: Sequence[str] = (), width: int = _WIDTH
) -> list[Marks]:
    """Find the wording that texts share, numbers apart.

    Args:
        texts: questions of one skeleton.
        others: questions of other accounts: a run that two in a hundred of them have (and two at
            least) is everybody's, unless a third of the texts has it.
        width: words in a run.

    Returns:
        For each text the pieces, from and to, that an eighth of the texts have, two at least; none
        for a text alone. Of a text's runs, those much rarer than its commonest are left out: they
        hold chance words beside the shared ones.

    Example:
        >>> mark_shared(["Solve 3 + 4 step by step now", "solve 9 + 1 step by step please"])
        [((0, 24),), ((0, 24),)]
    """
    words = [list(_WORD.finditer(text)) for text in texts]
    runs = [_runs(found, width) for found in words]
    seen = Counter(run for mine in runs for run in set(mine))
    common = Counter(
        run for text in others for run in set(_runs(list(_WORD.finditer(text)), width))
    )
    least = max(2, math.ceil(_SHARE * len(texts)))
    most, plain = max(2, math.ceil(_COMMON * len(others))), _PLAIN * len(texts)
    marks = []
    for found, mine in zip(words, runs, strict=True):
        limit = max(float(least), _BESIDE * max((seen[run] for run in mine), default=0))
        shared = [seen[run] >= limit and (common[run] < most or seen[run] >= plain) for run in mine]
        marks.append(_pieces(found, shared, width))
    return marks


def split_marks(marks: Marks, at: int) -> tuple[Marks, Marks]:
    """Cut marks of a text in two parts.

    Args:
        marks: as `mark_shared` gives them.
        at: where the second part begins.

    Returns:
        The marks of both parts, each from the beginning of its part.

    Example:
        >>> split_marks(((2, 8), (9, 12)), 5)
        (((2, 5),), ((0, 3), (4, 7)))
    """
    first = tuple((a, min(b, at)) for a, b in marks if a < at)
    return first, tuple((max(a, at) - at, b - at) for a, b in marks if b > at)


def without_marks(text: str, marks: Marks) -> str:
    """Take the shared wording out of a text: what is left is what was asked.

    Args:
        text: a question.
        marks: as `mark_shared` gives them.

    Returns:
        The rest.
    """
    rest, at = [], 0
    for start, end in marks:
        rest.append(text[at:start])
        at = end
    return " ".join([*rest, text[at:]]).strip()


def content_words(text: str) -> list[str]:
    """Cut a text into its words in small letters, numbers left out.

    Args:
        text: any.

    Returns:
        Words, in order.
    """
    return [word.lower() for word in _WORD.findall(text) if not word[0].isdigit()]


def _runs(words: Sequence[re.Match[str]], width: int) -> list[tuple[str, ...]]:
    masked = ["0" if word[0][0].isdigit() else word[0].lower() for word in words]
    if not masked:
        return []
    last = max(len(masked) - width, 0)
    return [tuple(masked[i : i + width]) for i in range(last + 1)]


def _pieces(words: Sequence[re.Match[str]], shared: Sequence[bool], width: int) -> Marks:
    """Join the runs that are shared into pieces of text."""
    pieces: list[tuple[int, int]] = []
    last = -1
    for i, hit in enumerate(shared):
        if not hit:
            continue
        final = min(i + width, len(words)) - 1
        if pieces and i <= last + 1:
            pieces[-1] = (pieces[-1][0], words[final].end())
        else:
            pieces.append((words[i].start(), words[final].end()))
        last = final
    return tuple(pieces)
