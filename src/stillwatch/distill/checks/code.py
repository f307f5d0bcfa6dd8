"""Python that passes its tests, run in a confined child."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from stillwatch.distill.checks.judgement import NO_TRUTH, Judgement, Row
from stillwatch.distill.checks.sandbox import Limits, Outcome, run_python
from stillwatch.distill.items import Item
from stillwatch.errors import reject

_BLOCK = re.compile(r"^[ \t]*```[ \t]*(?P<tag>[\w+-]*)[^\n]*\n(?P<code>.*?)^[ \t]*```", re.S | re.M)
_OPEN_BLOCK = re.compile(r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\n(?P<code>.*)\Z", re.S | re.M)
_PYTHON = {"", "python", "python3", "py"}


class CodeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `code`.

    Attributes:
        wall_s: seconds by the clock that one run may take.
        cpu_s: seconds of CPU.
        memory_mb: address space (MiB).
        file_mb: largest file written (MiB).
        processes: processes and threads at once (count).
        packages: let the code import installed packages, not the standard library only.
        confine: refuse to run where network and files cannot be closed.
        at_once: runs at the same time (count); 0 for one a processor.
    """

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_mb: int = 512
    file_mb: int = 8
    processes: int = 16
    packages: bool = False
    confine: bool = True
    at_once: int = 0


class _Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stdin: str = ""
    stdout: str = ""


class _Truth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tests: str = ""
    entry_point: str = ""
    cases: tuple[_Case, ...] = ()


class _Work(NamedTuple):
    code: str
    truth: _Truth


class CodeCheck:
    """Runs an answer's code against tests.

    The truth is Python that raises when something is wrong (asserts), or a JSON object: `tests` is
    such Python, with `entry_point` its function `check` is called with the function of that name;
    or `cases` is a list of {stdin, stdout} for a whole program.

    Args:
        options: limits.

    Raises:
        InvalidInputError: a limit that is not above zero.
    """

    kind = "code"

    def __init__(self, options: CodeOptions) -> None:
        for name in ("wall_s", "cpu_s", "memory_mb", "file_mb", "processes"):
            if getattr(options, name) <= 0:
                reject("check code", name, "above 0", got=getattr(options, name))
        self._options = options
        self._limits = Limits(
            wall_s=options.wall_s,
            cpu_s=options.cpu_s,
            memory_mb=options.memory_mb,
            file_mb=options.file_mb,
            processes=options.processes,
        )

    def __call__(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Run one answer's code.

        Args:
            truth: tests, or None.
            answer: the answer's text; its code is taken as `code_of` says.
            item: not looked at.

        Returns:
            The judgement; unknown without tests, or when the child could not be set up.

        Raises:
            EnvironmentUnfitError: `confine` and this machine cannot close network and files.
        """
        if truth is None:
            return NO_TRUTH
        tests = _read_truth(truth)
        if tests is None:
            return Judgement(None, "the truth holds no tests")
        code = code_of(answer, entry_point=tests.entry_point)
        if not code.strip():
            return Judgement(False, "the answer holds no code")
        work = _Work(code, tests)
        return self._run_cases(work) if tests.cases else self._run_tests(work)

    async def judge(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Run one answer's code in a thread that waits for the child.

        Args:
            truth: as for a call.
            answer: as for a call.
            item: as for a call.

        Returns:
            The judgement.
        """
        return await asyncio.to_thread(self, truth, answer, item)

    async def judge_many(self, rows: Sequence[Row]) -> list[Judgement]:
        """Run many answers' code, `at_once` at the same time.

        Args:
            rows: any number.

        Returns:
            One judgement a row, in order.
        """
        places = asyncio.Semaphore(self._options.at_once or os.cpu_count() or 1)

        async def one(row: Row) -> Judgement:
            async with places:
                return await self.judge(*row)

        return list(await asyncio.gather(*(one(row) for row in rows)))

    def _run_tests(self, work: _Work) -> Judgement:
        tests = work.truth.tests
        if work.truth.entry_point:
            tests += f"\ncheck({work.truth.entry_point})\n"
        return _judged(self._run([("answer.py", work.code), ("tests.py", tests)], stdin=""))

    def _run_cases(self, work: _Work) -> Judgement:
        for n, case in enumerate(work.truth.cases, start=1):
            outcome = self._run([("answer.py", work.code)], stdin=case.stdin)
            # A program may end itself: what counts is what it wrote.
            ended = outcome.passed or outcome.reason == "raised SystemExit"
            if not ended:
                return _judged(outcome)
            if _lines(outcome.output.decode("utf-8", "replace")) != _lines(case.stdout):
                return Judgement(False, f"another output in case {n} of {len(work.truth.cases)}")
        return Judgement(True, "every case gave its output")

    def _run(self, sources: list[tuple[str, str]], *, stdin: str) -> Outcome:
        return run_python(
            sources,
            limits=self._limits,
            stdin=stdin.encode(),
            packages=self._options.packages,
            must_confine=self._options.confine,
        )


def code_of(answer: str, *, entry_point: str = "") -> str:
    r"""Take the code out of an answer.

    Args:
        answer: its text.
        entry_point: a function that the code must define, or "".

    Returns:
        The fenced block that defines it, else the longest Python block (an unclosed one at the end
        too), else, without any fence, the whole text.

    Example:
        >>> code_of("Here:" + chr(10) + "```python" + chr(10) + "x = 1" + chr(10) + "```")
        'x = 1\n'
    """
    answer = answer.replace("\r\n", "\n")
    blocks = [match["code"] for match in _BLOCK.finditer(answer) if match["tag"].lower() in _PYTHON]
    if not blocks:
        opened = _OPEN_BLOCK.search(answer)
        fenced = "```" in answer
        return opened["code"] if opened else "" if fenced else answer
    if entry_point:
        defines = re.compile(rf"^\s*(?:async\s+)?def\s+{re.escape(entry_point)}\b", re.M)
        if defining := [block for block in blocks if defines.search(block)]:
            return max(defining, key=len)
    return max(blocks, key=len)


def _read_truth(truth: str) -> _Truth | None:
    if truth.lstrip().startswith("{"):
        try:
            found = msgspec.json.decode(truth, type=_Truth)
        except msgspec.MsgspecError:
            return None
        return found if found.tests.strip() or found.cases else None
    return _Truth(tests=truth) if truth.strip() else None


def _judged(outcome: Outcome) -> Judgement:
    if not outcome.ran:
        return Judgement(None, outcome.reason)
    return Judgement(outcome.passed, "the tests passed" if outcome.passed else outcome.reason)


def _lines(text: str) -> list[str]:
    """Compare what a program wrote line by line, space at the ends of lines and text left out."""
    return [line.rstrip() for line in text.strip().splitlines()]
