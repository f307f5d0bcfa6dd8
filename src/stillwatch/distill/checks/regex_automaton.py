"""Decides whether two expressions match the same, by walking their automata side by side.

A state is the set of places that a match may have come to, the kind of character before them, and
nothing else: anchors and boundaries look one character back and one ahead, so a step is taken with
the next character known. The walk visits pairs of states; where one accepts and the other does
not, the way there is a text that tells them apart. Without such a pair they are the same: the walk
is complete, so the answer is proof and not luck.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple

from stillwatch.distill.checks.regex_parse import (
    Anchor,
    BeyondError,
    Charset,
    Choice,
    Node,
    Repeat,
    Sequence,
    contains,
)

#: How a text is matched: at every place with every end, as a whole, or anywhere at all.
By = Literal["span", "full", "search"]
#: Places of one automaton, and pairs of states visited, before it gives up.
_MOST_PLACES = 4000
_MOST_PAIRS = 20_000
_MOST_FOREIGN = 512
_ASCII = range(128)

#: What stands before a place: nothing, a line's end, a word character, anything else.
_NOTHING, _OTHER, _WORD, _NEWLINE, _LAST_NEWLINE = range(5)
_SAMPLES = ("", " ", "x", "\n", "\n")


class Letter(NamedTuple):
    """Characters that both expressions treat alike, as one.

    Attributes:
        kind: `_NEWLINE`, `_LAST_NEWLINE` (the text's last character), `_WORD` or `_OTHER`; for the
            end of the text `_NOTHING`.
        sample: one of them, "" for the end.
        members: per charset of both expressions whether it holds them.
    """

    kind: int
    sample: str
    members: tuple[bool, ...]


class _Net:
    """Thompson's automaton: places with edges that read a set, test an anchor, or are free."""

    def __init__(self) -> None:
        self.free: list[list[int]] = []
        self.tests: list[list[tuple[str, int]]] = []
        self.reads: list[list[tuple[Charset, int]]] = []
        self.start = self._place()
        self.end = -1

    @classmethod
    def of(cls, tree: Node) -> _Net:
        net = cls()
        net.end = net._add(tree, net.start)
        return net

    def _place(self) -> int:
        if len(self.free) >= _MOST_PLACES:
            raise BeyondError("it is too large")  # noqa: EM101
        self.free.append([])
        self.tests.append([])
        self.reads.append([])
        return len(self.free) - 1

    def _add(self, node: Node, begin: int) -> int:
        """Add what a node matches from a place; gives the place behind it."""
        if isinstance(node, Sequence):
            for part in node.parts:
                begin = self._add(part, begin)
            return begin
        end = self._place()
        if isinstance(node, Charset):
            self.reads[begin].append((node, end))
        elif isinstance(node, Anchor):
            self.tests[begin].append((node.kind, end))
        elif isinstance(node, Choice):
            for option in node.options:
                first = self._place()
                self.free[begin].append(first)
                self.free[self._add(option, first)].append(end)
        else:
            self._repeat(node, begin, end)
        return end

    def _repeat(self, node: Repeat, begin: int, end: int) -> None:
        for _ in range(node.least):
            begin = self._add(node.part, begin)
        if node.most is None:
            loop = self._place()
            self.free[begin].append(loop)
            self.free[self._add(node.part, loop)].append(loop)
            self.free[loop].append(end)
            return
        for _ in range(node.most - node.least):
            self.free[begin].append(end)
            begin = self._add(node.part, begin)
        self.free[begin].append(end)

    def closure(self, places: Iterable[int], before: int, after: int) -> frozenset[int]:
        """Follow free edges and anchors that hold between two kinds of characters."""
        todo = list(places)
        seen = set(todo)
        while todo:
            place = todo.pop()
            held = [to for kind, to in self.tests[place] if _holds(kind, before, after)]
            for to in (*self.free[place], *held):
                if to not in seen:
                    seen.add(to)
                    todo.append(to)
        return frozenset(seen)


def _holds(kind: str, before: int, after: int) -> bool:
    if kind == "start":
        return before == _NOTHING
    if kind == "end":
        return after == _NOTHING
    if kind == "line_start":
        return before in {_NOTHING, _NEWLINE, _LAST_NEWLINE}
    if kind == "line_end":
        return after in {_NOTHING, _NEWLINE, _LAST_NEWLINE}
    if kind == "last_line_end":
        return after in {_NOTHING, _LAST_NEWLINE}
    return ((before == _WORD) != (after == _WORD)) == (kind == "boundary")


class Difference(NamedTuple):
    """A text that tells two expressions apart.

    Attributes:
        text: what one matches and the other does not.
        first: whether it is the first that matches.
        before: a character that must stand in front of it, "" for the beginning.
        after: one that must follow, "" for the end.
    """

    text: str
    first: bool
    before: str
    after: str


def difference(first: Node, second: Node, *, by: By = "span") -> Difference | None:
    """Find a text that one expression matches and the other does not.

    Args:
        first: a tree.
        second: another.
        by: "span" compares which stretches of which texts they can match, "full" which whole
            texts, "search" in which texts they find anything.

    Returns:
        A shortest such text, over ASCII and what the expressions name, or None when there is none.

    Raises:
        BeyondError: too large to decide.
    """
    return _Walk(_Net.of(first), _Net.of(second), by).run()


_State = tuple[frozenset[int], bool]


class _Walk:
    def __init__(self, one: _Net, two: _Net, by: By) -> None:
        self._nets = (one, two)
        self._by = by
        sets = list(dict.fromkeys(s for net in self._nets for row in net.reads for s, _ in row))
        self._column = {charset: n for n, charset in enumerate(sets)}
        self._letters = _letters(sets)
        self._stop = Letter(_NOTHING, "", ())
        self._moves: dict[tuple[int, frozenset[int], int, Letter], _State] = {}

    def run(self) -> Difference | None:
        starts = (frozenset({self._nets[0].start}), frozenset({self._nets[1].start}))
        befores = [_NOTHING]
        if self._by == "span":
            befores += sorted({letter.kind for letter in self._letters})
        todo = deque(((*starts, before), "", before) for before in befores)
        seen = {pair for pair, _, _ in todo}
        while todo:
            (one, two, before), text, came = todo.popleft()
            for letter in self._next(before):
                left, left_accepts = self._move(0, one, before, letter=letter)
                right, right_accepts = self._move(1, two, before, letter=letter)
                if left_accepts != right_accepts:
                    return Difference(text, left_accepts, _SAMPLES[came], letter.sample)
                # In a search one match is enough, and here both have it.
                found = self._by == "search" and left_accepts
                pair = (left, right, letter.kind)
                if found or not (left or right) or letter is self._stop or pair in seen:
                    continue
                if len(seen) >= _MOST_PAIRS:
                    raise BeyondError("there are too many states")  # noqa: EM101
                seen.add(pair)
                todo.append((pair, text + letter.sample, came))
        return None

    def _next(self, before: int) -> list[Letter]:
        """What may come next: nothing more after the last newline, and never nothing after one."""
        if before == _LAST_NEWLINE:
            return [self._stop]
        if before == _NEWLINE:
            return self._letters
        return [self._stop, *self._letters]

    def _move(self, which: int, places: frozenset[int], before: int, *, letter: Letter) -> _State:
        """Read a letter: the places after it, and whether the places before it accepted."""
        key = (which, places, before, letter)
        known = self._moves.get(key)
        if known is not None:
            return known
        net = self._nets[which]
        again = {net.start} if self._by == "search" else set()
        here = net.closure(places | again, before, letter.kind)
        accepts = net.end in here and (self._by != "full" or letter is self._stop)
        there = frozenset(
            to
            for place in here
            for charset, to in net.reads[place]
            if letter.members and letter.members[self._column[charset]]
        )
        self._moves[key] = there, accepts
        return there, accepts


def _letters(sets: list[Charset]) -> list[Letter]:
    codes = set(_ASCII)
    for charset in sets:
        for first, last in charset.spans:
            if last < 128:
                continue
            if last - first >= _MOST_FOREIGN:
                raise BeyondError("it names too many characters beyond ASCII")  # noqa: EM101
            codes.update(range(max(first, 128), last + 1))
    found: dict[tuple[int, tuple[bool, ...]], Letter] = {}
    # Characters that a reader can see first: they make the better examples.
    for code in sorted(codes, key=lambda c: (not chr(c).isalnum(), not 32 < c < 127, c)):
        members = tuple(contains(s, code, is_class=_is_class) for s in sets)
        kind = _WORD if _is_class("w", code) else _OTHER
        for own in (_NEWLINE, _LAST_NEWLINE) if code == 10 else (kind,):
            found.setdefault((own, members), Letter(own, chr(code), members))
    return list(found.values())


def _is_class(name: str, code: int) -> bool:
    character = chr(code)
    if name == "d":
        return character.isdecimal()
    if name == "s":
        # Python alone counts the four separators from 1C as space.
        return character.isspace() and not 28 <= code <= 31
    return character.isalnum() or character == "_"
