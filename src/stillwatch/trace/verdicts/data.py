"""A verdict with the bundle behind it as plain data: what the page shows, and what JSON keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.trace.bundle.files import open_files
from stillwatch.trace.bundle.manifest import Step
from stillwatch.trace.bundle.recompute import Recomputed
from stillwatch.trace.bundle.verification import Verification
from stillwatch.trace.bundle.verify import load_manifest, load_steps
from stillwatch.trace.preregister import AnalysisPlan
from stillwatch.trace.verdicts.verdict import Verdict


def verdict_data(
    verdict: Verdict,
    plan: AnalysisPlan,
    *,
    verification: Verification | None = None,
    recomputed: Sequence[Recomputed] = (),
    run: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Put together what a page about a verdict needs.

    Args:
        verdict: from `verdict.decide`.
        plan: that it answers.
        verification: of the bundle, or None while there is none.
        recomputed: of the bundle's steps.
        run: `version`, `made_at` and the `command` that checks the bundle.

    Returns:
        Plain data for `report.verdict_page.render_verdict`.
    """
    data: dict[str, Any] = msgspec.to_builtins(verdict)
    audit = verdict.audit
    for told, one in zip(data["audit"]["decoys"], audit.decoys, strict=True):
        told["passed"] = one.passed
    data["audit"]["innocents"]["passed"] = audit.innocents.passed
    data["audit"]["passed"] = audit.passed
    data["plan"] = {
        **{key: getattr(plan, key) for key in ("title", "proved", "strong", "correction")},
        **{key: getattr(plan, key) for key in ("stopping", "n_prompts", "digest")},
    }
    data["recomputed"] = [
        {"step": one.step, "test": one.test, "outcome": one.outcome, "details": list(one.details)}
        for one in recomputed
    ]
    data["run"] = run or {}
    data["bundle"] = None if verification is None else bundle_data(verification)
    case = None if verification is None else verification.case
    data["case"] = None if case is None else msgspec.to_builtins(case)
    return data


def bundle_data(found: Verification) -> dict[str, Any]:
    """Write a verification as plain data.

    Args:
        found: from `verify_bundle`.

    Returns:
        Plain data; `is_sound` and `is_timely` among it.
    """
    return {
        "root": found.root,
        "variant": found.variant,
        "is_sound": found.is_sound,
        "is_timely": found.is_timely,
        "problems": [str(one) for one in found.problems],
        "notes": list(found.notes),
        "n_files": found.n_files,
        "n_withheld": found.n_withheld,
        "n_lines_withheld": found.n_lines_withheld,
        "witnesses": [
            {
                "path": one.path,
                "about": one.about,
                "when": one.stamp.when,
                "authority": one.stamp.authority,
                "is_trusted": one.stamp.is_trusted,
            }
            for one in found.witnesses
        ],
        "files": [{"path": path, "sha256": sha256} for path, sha256 in found.files.items()],
        "commitments": [one._asdict() for one in found.commitments],
    }


def verdict_of(path: Path) -> tuple[Verdict, AnalysisPlan]:
    """Read the verdict that a bundle holds, and the plan that it answers.

    Args:
        path: the bundle, verified before; its folder or its archive.

    Returns:
        Verdict and plan.

    Raises:
        RecordError: the bundle has no step of the test `verdict`, or keeps its files back.
    """
    with open_files(path) as files:
        here = {one.path for one in load_manifest(files).files if not one.is_withheld}
        step = next((one for one in reversed(load_steps(files)) if one.test == "verdict"), None)
        needed = {step.result_path, step.inputs.get("plan", "")} if step else set()
        if step is None or not needed <= here:
            message = f"{path}: the bundle shows no verdict"
            raise RecordError(message, hint="a step of the test 'verdict' makes one")
        return _decoded(files.open, step)


def _decoded(opened: Any, step: Step) -> tuple[Verdict, AnalysisPlan]:
    try:
        with opened(step.result_path) as file:
            verdict = msgspec.json.decode(file.read(), type=Verdict)
        with opened(step.inputs["plan"]) as file:
            return verdict, msgspec.json.decode(file.read(), type=AnalysisPlan)
    except (msgspec.MsgspecError, InvalidInputError) as error:
        message = f"{step.result_path}: not a verdict with its plan: {error}"
        raise RecordError(message) from error
