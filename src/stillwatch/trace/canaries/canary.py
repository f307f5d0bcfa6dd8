"""Canaries: randomised variants of an answer, one of them served, the others withheld.

A canary is a place in an answer where m variants would do equally well: a made-up name in an
example, a choice of words, the third of three illustrations. One is drawn by a secret key and
served to the traffic under suspicion; the others are never served to anybody. A suspect that gives
the drawn variant more often than 1 in m knows the draw, and it can only know it from what was
served. Neither the suspect's habits nor its base model matter: they cannot depend on our draw.

This module draws, commits, serves and reads; `canary_proof` plans and tests.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillwatch.errors import InvalidInputError, reject
from stillwatch.record.exchange import canonical_json
from stillwatch.trace.outputs import SuspectOutput

_DRAW = b"stillwatch canary draw 1\0"
_NONCE = b"stillwatch canary nonce 1\0"
_COMMITMENT = b"stillwatch canary commitment 1\0"
_NOT_WORD = re.compile(r"[^\w]+")


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place where several variants would do.

    Attributes:
        canary_id: its name in the plan and in the record.
        probe: the question that makes a model show which variant it knows; holds none of them.
        variants: what may be served, at least two; none may be read inside another.
    """

    canary_id: str
    probe: str
    variants: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse variants that could not be told apart.

        Raises:
            InvalidInputError: fewer than two variants, or one is empty, or can be read inside
                another or inside the probe.
        """
        where = f"canary {self.canary_id}"
        if len(self.variants) < 2:
            reject(where, "variants", "at least 2", got=len(self.variants))
        probe, *words = (_words(text) for text in (self.probe, *self.variants))
        for i, one in enumerate(words):
            if not one.strip():
                reject(where, "variants", "texts with letters or digits", got=self.variants[i])
            if one in probe:
                hint = "a suspect may only repeat what it is asked"
                reject(where, "probe", "free of every variant", got=self.variants[i], hint=hint)
            if any(one in other for j, other in enumerate(words) if j != i):
                reject(where, "variants", "not part of one another", got=self.variants[i])


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which variant of each canary is served: secret until the suspect has answered.

    Attributes:
        canaries: in the order in which they will be asked.
        served: index of the drawn variant of each canary.
        nonce: hex; makes the commitment impossible to search.
        beacon: hex of public bytes that were mixed into the draw, or "".
    """

    canaries: tuple[Canary, ...]
    served: tuple[int, ...]
    nonce: str
    beacon: str = ""

    def __post_init__(self) -> None:
        """Refuse an assignment that does not fit its canaries.

        Raises:
            InvalidInputError: two canaries share a name, or a draw is missing or out of range.
        """
        names = [canary.canary_id for canary in self.canaries]
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            reject("Assignment", "canaries", "named differently", got=twice[0])
        if len(self.served) != len(self.canaries):
            rule = f"one draw a canary ({len(self.canaries)})"
            reject("Assignment", "served", rule, got=len(self.served))
        for canary, index in zip(self.canaries, self.served, strict=True):
            if not 0 <= index < len(canary.variants):
                rule = f"in 0..{len(canary.variants) - 1} for {canary.canary_id}"
                reject("Assignment", "served", rule, got=index)

    @property
    def commitment(self) -> str:
        """SHA-256 over everything above: publish or time-stamp it before the first serving."""
        body = canonical_json(self)
        return hashlib.sha256(_COMMITMENT + body.encode()).hexdigest()

    @property
    def assignment_id(self) -> str:
        """Its public name: the first 16 digits of the commitment."""
        return self.commitment[:16]

    @property
    def randomisation(self) -> str:
        """How findings name this draw."""
        return f"canary:{self.assignment_id}"

    def serve(self, canary_id: str) -> str:
        """Give the text to serve.

        Args:
            canary_id: which canary.

        Returns:
            The drawn variant.

        Raises:
            InvalidInputError: there is no such canary.
        """
        for canary, index in zip(self.canaries, self.served, strict=True):
            if canary.canary_id == canary_id:
                return canary.variants[index]
        return reject("Assignment", "canary_id", "one of the drawn canaries", got=canary_id)


class Serving(NamedTuple):
    """What the record says about an assignment that was meant to be served.

    Attributes:
        served: canaries whose drawn variant stands in the suspect traffic's answers.
        leaked: canaries of which a withheld variant stands in any answer to anybody.
    """

    served: frozenset[str]
    leaked: frozenset[str]


def draw_assignment(canaries: Sequence[Canary], *, key: bytes, beacon: bytes = b"") -> Assignment:
    """Draw which variant of each canary is served.

    The draw is HMAC-SHA256 of the canary's name under the key, modulo the number of variants: with
    at most 2 ** 32 variants its bias is below 2 ** -200. Whoever could try many keys could pick a
    draw that a certain model answers by habit; bytes that nobody can foresee, such as the signature
    of a time-stamp over the canaries and over a hash of the key, rule that out.

    Args:
        canaries: in the order in which they will be asked.
        key: a secret of this assignment alone, 16 random bytes or more.
        beacon: public bytes, unknown when canaries and key were fixed.

    Returns:
        The assignment; the same arguments always give the same one.

    Raises:
        InvalidInputError: the key is too short, or two canaries share a name.
    """
    if len(key) < 16:
        reject("draw_assignment", "key", "at least 16 bytes long", got=f"{len(key)} bytes")
    drawn = tuple(drawn_index(canary, key=key, beacon=beacon) for canary in canaries)
    nonce = hmac.digest(key, _NONCE + beacon, "sha256").hex()
    return Assignment(tuple(canaries), drawn, nonce, beacon.hex())


def drawn_index(canary: Canary, *, key: bytes, beacon: bytes = b"") -> int:
    """Draw one canary: all that a gateway needs to serve it.

    Args:
        canary: which.
        key: as for `draw_assignment`.
        beacon: as for `draw_assignment`.

    Returns:
        Index of the variant to serve.
    """
    label = _DRAW + beacon + b"\0" + canary.canary_id.encode()
    return int.from_bytes(hmac.digest(key, label, "sha256"), "big") % len(canary.variants)


def read_canaries(path: Path) -> list[Canary]:
    """Read canaries from a file.

    Args:
        path: JSON lines with `canary_id`, `probe` and `variants`.

    Returns:
        The canaries, in the file's order.

    Raises:
        InvalidInputError: the file holds none, or a line is not a canary.
    """
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=Canary))
        except (msgspec.MsgspecError, InvalidInputError, UnicodeDecodeError) as error:
            message = f"{path}:{number}: the line must be a canary: {error}"
            raise InvalidInputError(message) from error
    if not found:
        reject(str(path), "the file", "at least one canary", got=0)
    return found


def variant_in(answer: str, canary: Canary) -> int | None:
    """Tell which variant an answer shows.

    Args:
        answer: what a model said.
        canary: whose variants to look for: whole words, letter case and punctuation aside.

    Returns:
        Index of the only variant that occurs; None when none or more than one does.
    """
    words = _words(answer)
    shown = [i for i, variant in enumerate(canary.variants) if _words(variant) in words]
    return shown[0] if len(shown) == 1 else None


def picks_of(canaries: Iterable[Canary], outputs: Iterable[SuspectOutput]) -> dict[str, int | None]:
    """Read a suspect's pick of every canary from its answers.

    The reading sees the answers and the variants, never the draw. Several answers to one probe are
    one pick: the variant that most of them show.

    Args:
        canaries: what was asked.
        outputs: the answers; each belongs to the canary that its `question_id` names, else to the
            one whose probe is its question.

    Returns:
        canary id -> index of the variant; None for no answer, none shown, or a tie.
    """
    asked = list(canaries)
    by_probe = {canary.probe.strip(): canary.canary_id for canary in asked}
    answers: dict[str, list[str]] = {canary.canary_id: [] for canary in asked}
    for output in outputs:
        named = output.question_id in answers
        canary_id = output.question_id if named else by_probe.get(output.question.strip())
        if canary_id is not None:
            answers[canary_id].append(output.answer)
    picks: dict[str, int | None] = {}
    for canary in asked:
        shown = (variant_in(one, canary) for one in answers[canary.canary_id])
        votes = Counter(index for index in shown if index is not None).most_common(2)
        tied = len(votes) == 2 and votes[0][1] == votes[1][1]
        picks[canary.canary_id] = None if tied or not votes else votes[0][0]
    return picks


def picks_by_likelihood(log_likelihoods: Mapping[str, Sequence[float]]) -> dict[str, int | None]:
    """Read picks from a suspect whose likelihoods can be had: no answer is lost.

    Args:
        log_likelihoods: canary id -> log-likelihood of each variant after the probe, in the
            variants' order; divide by length, or subtract a model that never saw them.

    Returns:
        canary id -> index of the likeliest variant; None for a tie.

    Raises:
        InvalidInputError: a canary has fewer than two likelihoods.
    """
    picks: dict[str, int | None] = {}
    for canary_id, values in log_likelihoods.items():
        if len(values) < 2:
            reject("picks_by_likelihood", canary_id, "two numbers or more", got=len(values))
        best = max(values)
        at = [i for i, value in enumerate(values) if value == best]
        picks[canary_id] = at[0] if len(at) == 1 else None
    return picks


def prior_shares(
    canaries: Sequence[Canary], references: Sequence[Mapping[str, int | None]]
) -> dict[str, list[float]]:
    """Estimate by how much habit each variant is given.

    Args:
        canaries: what was asked.
        references: picks of models that never saw our answers; none of them the suspect.

    Returns:
        canary id -> share of each variant, half a pick added to each so that none is 0.
    """
    shares = {}
    for canary in canaries:
        counts = [0.5] * len(canary.variants)
        for picks in references:
            index = picks.get(canary.canary_id)
            if index is not None:
                counts[index] += 1
        shares[canary.canary_id] = [count / sum(counts) for count in counts]
    return shares


def check_serving(
    assignment: Assignment, *, to_suspects: Iterable[str], to_others: Iterable[str] = ()
) -> Serving:
    """Look up in the record what was really served.

    A canary that was never served cannot have been learned, and one of which a withheld variant got
    out is weaker. Leaving either out is allowed: the record does not know the suspect's answers.

    Args:
        assignment: what was drawn.
        to_suspects: answers to the traffic under suspicion.
        to_others: all other answers.

    Returns:
        Which canaries were served, which leaked.
    """
    by_word: dict[str, list[tuple[str, str, bool]]] = {}
    for canary, drawn in zip(assignment.canaries, assignment.served, strict=True):
        for i, variant in enumerate(canary.variants):
            words = _words(variant)
            entry = (words, canary.canary_id, i == drawn)
            by_word.setdefault(words.split()[0], []).append(entry)
    served, leaked = set(), set()
    for is_suspect, answers in ((True, to_suspects), (False, to_others)):
        for answer in answers:
            text = _words(answer)
            for word in set(text.split()) & by_word.keys():
                for words, canary_id, is_drawn in by_word[word]:
                    if words in text and is_suspect and is_drawn:
                        served.add(canary_id)
                    elif words in text and not is_drawn:
                        leaked.add(canary_id)
    return Serving(frozenset(served), frozenset(leaked))


def _words(text: str) -> str:
    """Reduce a text to its words between single spaces, one at either end."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return f" {_NOT_WORD.sub(' ', plain).strip()} "
