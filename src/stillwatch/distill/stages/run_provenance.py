"""The files of a run that say where it came from: cards, a Croissant record, the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stillwatch.distill.origin.manifest import STUDENT_FACTS, write_manifest
from stillwatch.distill.origin.provenance_cards import StudentFacts, student_card
from stillwatch.distill.origin.provenance_croissant import croissant
from stillwatch.distill.permit.permission import PermissionStamp
from stillwatch.distill.stages.run_training import Kept, StudentRecord

if TYPE_CHECKING:
    from stillwatch.distill.run import Run


def describe_students(
    run: Run, records: Sequence[StudentRecord], permission: PermissionStamp, *, kept: Kept
) -> None:
    """Write the card and the provenance of every student that has none, and the record's.

    Args:
        run: the run.
        records: its students.
        permission: the stamp that they were made under.
        kept: what they learnt from.
    """
    student = run.settings.train.student
    for record in records:
        folder = run.folder.student(record.n_questions, record.seed)
        if (folder / STUDENT_FACTS).is_file():
            continue
        facts = StudentFacts(
            name=f"{run.settings.name}-{record.n_questions}-s{record.seed}",
            n_questions=record.n_questions,
            seed=record.seed,
            method=record.method,
            base_model=student.folder.rstrip("/").rpartition("/")[2],
            is_adapter=run.settings.train.lora is not None and not run.settings.train.lora.merge,
            figures={
                "steps": record.steps,
                "train_loss": round(record.train_loss, 4),
                "parameters": record.n_parameters,
            },
        )
        learnt = kept.first(record.n_questions)
        student_card(folder, facts, permission=permission, examples=learnt)
    croissant(run.folder.path, permission=permission, name=run.settings.name)


def seal(run: Run, *, permission: PermissionStamp | None) -> None:
    """Write the manifest over what stands in the run's folder now.

    Args:
        run: the run.
        permission: the stamp that the stage worked under, or None for a stage that asks nobody.
    """
    write_manifest(run.folder.path, permission=permission)
