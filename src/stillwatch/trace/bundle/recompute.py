"""Compute every number of a bundle again, from the bundle's own files, and compare.

A step names a test, its input files and its settings; running it gives plain data, which is held to
the result file number by number. Counts and texts must be the same; a fraction may differ in its
last digits, because another processor adds in another order.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from stillwatch.errors import StillwatchError, reject
from stillwatch.trace.bundle.files import open_files, unpack_files
from stillwatch.trace.bundle.manifest import Step
from stillwatch.trace.bundle.verify import load_manifest, load_steps

if TYPE_CHECKING:
    from stillwatch.trace.bundle.steps import Runner

Outcome = Literal["same", "different", "not here", "failed"]
#: Relative difference that two processors may give to one sum of doubles; statistics over 10,000
#: windows differ by about 1e-13, their tails by some hundred times that.
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12
_SHOWN = 20


class Recomputed(NamedTuple):
    """One step, run again.

    Attributes:
        step: its name.
        test: which test.
        outcome: same; different; not here: a file that it needs is kept back; failed: it could not
            be run, which is not the same as a wrong number.
        details: what differs, or why it was not run; 20 lines at most.
        result: what came out, plain data; None when it was not run.
    """

    step: str
    test: str
    outcome: Outcome
    details: tuple[str, ...] = ()
    result: Any = None


def recompute_bundle(
    path: Path, *, runners: Mapping[str, Runner] | None = None
) -> tuple[Recomputed, ...]:
    """Run every step of a bundle again and compare. Verify the bundle first.

    Args:
        path: the bundle's folder, or its archive.
        runners: test -> what runs it; None takes `steps.RUNNERS`.

    Returns:
        One entry a step, in order.

    Raises:
        RecordError: there is no readable bundle.
    """
    with tempfile.TemporaryDirectory() as work, open_files(path) as files:
        manifest, steps = load_manifest(files), load_steps(files)
        here = {entry.path for entry in manifest.files if not entry.withheld}
        folder = Path(work)
        unpack_files(files, folder)
        return tuple(_again(step, folder, here, runners=runners) for step in steps)


def run_step(step: Step, folder: Path, *, runners: Mapping[str, Runner] | None = None) -> Any:
    """Run one step on files of a folder.

    Args:
        step: which test, on what.
        folder: the bundle's folder.
        runners: test -> what runs it; None takes `steps.RUNNERS`.

    Returns:
        Plain data, as its result file holds it.

    Raises:
        InvalidInputError: no such test is known here.
    """
    known = _house_runners() if runners is None else runners
    if step.test not in known:
        rule = f"one of {', '.join(sorted(known))}"
        reject(f"step {step.name}", "test", rule, got=step.test)
    inputs = {role: folder / name for role, name in step.inputs.items()}
    result = known[step.test](inputs, step.settings)
    # Through JSON and back: what is compared is what a file can hold.
    return msgspec.json.decode(msgspec.json.encode(result, order="sorted"))


def differences(expected: Any, got: Any, *, at: str = "") -> Iterator[str]:
    """Compare two results.

    Args:
        expected: plain data from the result file.
        got: plain data that was computed now.
        at: where in them, for the texts.

    Yields:
        One sentence a difference.
    """
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        for key in sorted({*expected, *got}):
            where = f"{at}.{key}" if at else str(key)
            if key not in got or key not in expected:
                yield f"{where}: only in what {'was sealed' if key in expected else 'came out now'}"
            else:
                yield from differences(expected[key], got[key], at=where)
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield f"{at}: {len(expected)} entries were sealed, {len(got)} came out"
        for i, (one, other) in enumerate(zip(expected, got, strict=False)):
            yield from differences(one, other, at=f"{at}[{i}]")
    elif not _is_same(expected, got):
        yield f"{at or 'the result'}: {_shown(expected)} was sealed, {_shown(got)} came out"


def _house_runners() -> Mapping[str, Runner]:
    # Checking a bundle's files should not wait for the tests' compiled loops to load.
    from stillwatch.trace.bundle.steps import RUNNERS

    return RUNNERS


def _again(
    step: Step, folder: Path, here: set[str], *, runners: Mapping[str, Runner] | None
) -> Recomputed:
    needed = {*step.inputs.values(), step.result_path}
    # Only what was sealed and is shown in full: no name of a step leads out of the bundle.
    if missing := sorted(needed - here):
        details = tuple(f"{name} is not here in full" for name in missing)
        return Recomputed(step.name, step.test, "not here", details)
    try:
        expected = msgspec.json.decode((folder / step.result_path).read_bytes())
        got = run_step(step, folder, runners=runners)
    except (StillwatchError, msgspec.MsgspecError, ValueError, OSError) as error:
        told = str(error).replace(f"{folder}/", "")
        return Recomputed(step.name, step.test, "failed", (told,))
    found = tuple(differences(expected, got))
    outcome: Outcome = "different" if found else "same"
    return Recomputed(step.name, step.test, outcome, found[:_SHOWN], got)


def _is_same(expected: Any, got: Any) -> bool:
    numbers = isinstance(expected, int | float) and isinstance(got, int | float)
    if not numbers or isinstance(expected, bool) or isinstance(got, bool):
        return type(expected) is type(got) and bool(expected == got)
    if isinstance(expected, int) and isinstance(got, int):
        return expected == got
    return math.isclose(expected, got, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
