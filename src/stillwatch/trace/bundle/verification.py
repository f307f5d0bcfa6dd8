"""What checking a bundle came to, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from stillwatch.trace.bundle.manifest import SEAL, Case
from stillwatch.trace.bundle.timestamp import Stamp

ProblemKind = Literal["missing", "altered", "added", "damaged", "unfounded"]


class Problem(NamedTuple):
    """One thing that does not fit.

    Attributes:
        path: the file inside the bundle.
        kind: missing, altered, added; damaged: it cannot be read; unfounded: it says something that
            nothing bears out.
        detail: one sentence.
    """

    path: str
    kind: ProblemKind
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"


class Witness(NamedTuple):
    """One time-stamp in a bundle.

    Attributes:
        path: the file.
        about: the file that it is about.
        stamp: what it says.
    """

    path: str
    about: str
    stamp: Stamp


class Opened(NamedTuple):
    """One commitment in a bundle.

    Attributes:
        name: its name.
        kind: key, assignment, split, plan, questions or code.
        book: the public file that it stands in.
        file: what it opens to, or "" while it is kept secret.
        seen_at: UTC epoch seconds of the earliest stamp over its book, or None.
    """

    name: str
    kind: str
    book: str
    file: str
    seen_at: float | None


@dataclass
class Verification:
    """What checking a bundle came to.

    Attributes:
        problems: what does not fit, by file; none = sound.
        notes: what is no problem and should be known.
        root: the bundle's root, hex; compare it with one that was noted elsewhere.
        variant: full, redacted, or "" when there is no readable manifest.
        n_files: files that were hashed (count).
        n_withheld: files that are kept back (count).
        n_lines_withheld: lines that are kept back in shown files (count).
        witnesses: the time-stamps.
        commitments: what was committed to.
        case: who asked whom; None when it cannot be read.
        files: name -> SHA-256 as the manifest lists it, "" for a file that is kept back.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    root: str = ""
    variant: str = ""
    n_files: int = 0
    n_withheld: int = 0
    n_lines_withheld: int = 0
    witnesses: list[Witness] = field(default_factory=list)
    commitments: list[Opened] = field(default_factory=list)
    case: Case | None = None
    files: dict[str, str] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether every byte is the one that was sealed."""
        return not self.problems

    @property
    def is_timely(self) -> bool:
        """Whether trusted stamps bear out that commitments came before questions.

        True when the bundle is sound, the seal has a stamp from a trusted authority, there is a
        commitment, and each one was seen before the first question that the case tells of.
        """
        sealed = any(one.about == SEAL and one.stamp.is_trusted for one in self.witnesses)
        asked = None if self.case is None else self.case.asked_from
        seen = [one.seen_at for one in self.commitments]
        early = [at is not None and asked is not None and at < asked for at in seen]
        trusted = all(one.stamp.is_trusted for one in self.witnesses)
        return self.is_sound and sealed and trusted and bool(early) and all(early)

    def add(self, path: str, kind: ProblemKind, detail: str) -> None:
        """Note a problem.

        Args:
            path: the file.
            kind: as of `Problem`.
            detail: one sentence.
        """
        self.problems.append(Problem(path, kind, detail))
