"""What travels with a student: its model card, and where it is from as data.

The Hub's card knows no relation between a student and its teacher, so the teacher stands in tags
and in `provenance.json`. Obligations of the permission are carried out here: a name's prefix, lines
that must be shown, the licence that must be carried on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.distill.items import Example
from stillwatch.distill.origin.manifest import STUDENT_FACTS, examples_digest
from stillwatch.distill.permit.permission import PermissionStamp
from stillwatch.errors import reject
from stillwatch.record.disk import replace_file, replace_json

#: SPDX identifiers for which the Hub has a name of its own.
_HUB_LICENCES = {
    "Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-2-Clause": "bsd-2-clause",
    "BSD-3-Clause": "bsd-3-clause", "ISC": "isc", "MPL-2.0": "mpl-2.0", "Unlicense": "unlicense",
    "CC0-1.0": "cc0-1.0", "CC-BY-4.0": "cc-by-4.0", "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0", "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC-BY-ND-4.0": "cc-by-nd-4.0", "CC-BY-NC-ND-4.0": "cc-by-nc-nd-4.0",
    "GPL-2.0-only": "gpl-2.0", "GPL-3.0-only": "gpl-3.0", "GPL-3.0-or-later": "gpl-3.0",
    "LGPL-3.0-only": "lgpl-3.0", "LGPL-3.0-or-later": "lgpl-3.0",
    "AGPL-3.0-only": "agpl-3.0", "AGPL-3.0-or-later": "agpl-3.0", "EUPL-1.2": "eupl-1.2",
    "LicenseRef-llama2": "llama2", "LicenseRef-llama3": "llama3",
    "LicenseRef-llama3.1": "llama3.1", "LicenseRef-llama3.2": "llama3.2",
    "LicenseRef-llama3.3": "llama3.3", "LicenseRef-llama4": "llama4", "LicenseRef-gemma": "gemma",
}  # fmt: skip
_BASES = {
    "own-model": "the teacher is the user's own model",
    "written-grant": "a written grant",
    "licence": "the teacher's licence",
    "terms": "the terms of the teacher's endpoint",
}


class StudentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a card says of a student, besides its permission.

    Attributes:
        name: the student's name; obligations may put a prefix before it.
        n_questions: questions asked for its record (count).
        seed: of its training.
        method: sequence, topk or gad.
        base_model: Hub id or folder name of what it started from; "" for new weights.
        is_adapter: whether the folder holds an adapter to the base model alone.
        licence_spdx: under which the student is released; "" for none chosen.
        dataset: name of the answers' data set, for `datasets:`; "" for none released.
        figures: further figures by name: steps, losses, scores, dollars.
    """

    name: str
    n_questions: int
    seed: int = 0
    method: str = "sequence"
    base_model: str = ""
    is_adapter: bool = False
    licence_spdx: str = ""
    dataset: str = ""
    figures: Mapping[str, float | int | str] = {}


class StudentProvenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a student is from: `provenance.json` in its folder.

    Attributes:
        name: as on the card.
        n_questions: questions asked for its record (count).
        seed: of its training.
        method: sequence, topk or gad.
        base_model: what it started from; "" for new weights.
        n_examples: examples that it was given (count).
        examples_digest: `manifest.examples_digest` of them.
        permission: the stamp that it was made under.
        made_at: UTC epoch seconds.
    """

    name: str
    n_questions: int
    seed: int
    method: str
    base_model: str
    n_examples: int
    examples_digest: str
    permission: PermissionStamp
    made_at: float


def student_card(
    folder: Path,
    student: StudentFacts,
    *,
    permission: PermissionStamp,
    examples: Iterable[Example],
    now: float | None = None,
) -> StudentProvenance:
    """Write `README.md` and `provenance.json` into a student's folder.

    Args:
        folder: the model folder.
        student: what the card says.
        permission: the stamp that it was made under.
        examples: what it learnt from, in order.
        now: UTC epoch seconds; None takes the clock.

    Returns:
        What `provenance.json` says.

    Raises:
        NotPermittedError: the permission has run out, or its grant does not cover giving the
            student away while `student_release` is public.
        InvalidInputError: the student's licence is not the one that an obligation asks for.
    """
    now = time.time() if now is None else now
    permission.require(now)
    if permission.permission.student_release == "public":
        permission.require(now, scope="publish")
    _check_licence(student, permission)
    learnt = list(examples)
    name = card_name(student.name, permission)
    provenance = StudentProvenance(
        name=name,
        n_questions=student.n_questions,
        seed=student.seed,
        method=student.method,
        base_model=student.base_model,
        n_examples=len(learnt),
        examples_digest=examples_digest(learnt),
        permission=permission,
        made_at=now,
    )
    replace_json(folder / STUDENT_FACTS, provenance)
    replace_file(folder / "README.md", _card(student, provenance).encode())
    return provenance


def card_name(name: str, permission: PermissionStamp) -> str:
    """Give a student the name that its permission asks for.

    Args:
        name: as chosen.
        permission: the stamp.

    Returns:
        The name, with the prefix of a `name-prefix` obligation before it when it lacks that.
    """
    for prefix in obligations_of(permission, "name-prefix"):
        if not name.startswith(prefix):
            name = f"{prefix}-{name}"
    return name


def obligations_of(permission: PermissionStamp, kind: str) -> list[str]:
    """Read a permission's obligations of one kind.

    Args:
        permission: the stamp.
        kind: one of `permission.OBLIGATIONS`.

    Returns:
        Their values.
    """
    parted = (one.partition(":") for one in permission.permission.obligations)
    return [value.strip() for found, _, value in parted if found == kind]


def hub_licence(spdx: str) -> dict[str, str]:
    """Write a licence as the front matter of a card does.

    Args:
        spdx: an SPDX expression; "" for none.

    Returns:
        `license`, and `license_name` where the Hub has no name for it.

    Example:
        >>> hub_licence("MIT"), hub_licence("LicenseRef-house")
        ({'license': 'mit'}, {'license': 'other', 'license_name': 'house'})
    """
    if spdx in _HUB_LICENCES:
        return {"license": _HUB_LICENCES[spdx]}
    name = spdx.removeprefix("LicenseRef-").lower().replace(" ", "-") or "not-released"
    return {"license": "other", "license_name": name}


def _check_licence(student: StudentFacts, permission: PermissionStamp) -> None:
    for licence in obligations_of(permission, "licence"):
        if student.licence_spdx not in {"", licence}:
            rule = f"{licence}, which an obligation of the [permission] asks for"
            reject("student card", "licence_spdx", rule, got=student.licence_spdx)


def _front(student: StudentFacts, provenance: StudentProvenance) -> dict[str, Any]:
    stamp = provenance.permission
    licence = next(iter(obligations_of(stamp, "licence")), student.licence_spdx)
    front: dict[str, Any] = {**hub_licence(licence)}
    if student.base_model:
        front["base_model"] = student.base_model
        front["base_model_relation"] = "adapter" if student.is_adapter else "finetune"
    if student.dataset:
        front["datasets"] = [student.dataset]
    front["library_name"] = "peft" if student.is_adapter else "transformers"
    front["pipeline_tag"] = "text-generation"
    front["tags"] = ["distilled", f"teacher:{stamp.model}", f"permission:{stamp.basis}"]
    return front


def _card(student: StudentFacts, provenance: StudentProvenance) -> str:
    stamp = provenance.permission
    claim = stamp.permission
    front = [f"{key}: {_yaml(value)}" for key, value in _front(student, provenance).items()]
    shown = obligations_of(stamp, "attribution") + obligations_of(stamp, "notice")
    owner = f", run by {claim.endpoint_owner}" if claim.endpoint_owner else ""
    where = f" at {stamp.endpoint}{owner}" if stamp.endpoint.startswith("http") else ""
    lines = ["---", *front, "---", "", f"# {provenance.name}", ""]
    for line in shown:
        lines += [line, ""]
    start = f"`{student.base_model}`" if student.base_model else "new weights"
    lines += [
        f"A student of `{stamp.model}`{where}: trained from {start} on the teacher's answers to "
        f"{provenance.n_examples:,} of {provenance.n_questions:,} questions "
        f"(method {provenance.method}, seed {provenance.seed}).",
        "",
        "## Permission",
        "",
        f"Basis: {_BASES[stamp.basis]}. This is the claim of whoever made the student; it is "
        "recorded here and not proved.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in _claims(stamp).items()),
        "",
    ]
    if student.figures:
        lines += ["## Figures", "", "| | |", "|---|---|"]
        lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in student.figures.items()]
        lines.append("")
    lines += [
        "## Origin",
        "",
        f"Examples: SHA-256 `{provenance.examples_digest}` over items and answers, in order. "
        f"`{STUDENT_FACTS}` has the same as data; `stillwatch distill verify` checks it against "
        "the run.",
        "",
    ]
    return "\n".join(lines)


def _claims(stamp: PermissionStamp) -> dict[str, object]:
    claim = stamp.permission
    grant = claim.grant
    found = {
        "permission id": f"`{stamp.permission_id}`",
        "teacher": claim.teacher,
        "licence": claim.licence_spdx,
        "terms": claim.terms_url,
        "terms SHA-256": claim.terms_sha256,
        "terms read on": claim.retrieved or "",
        "grant": f"{grant.by}, {grant.ref}, for {grant.scope}" if grant else "",
        "holds until": claim.last_day or "",
        "release of the student": claim.student_release,
    }
    return {key: value for key, value in found.items() if value}


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _yaml(value: object) -> str:
    """JSON is YAML: quoted strings and flow lists need no further care."""
    return msgspec.json.encode(value).decode()
