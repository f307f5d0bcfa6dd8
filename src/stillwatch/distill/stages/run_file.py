"""RUN.toml: the tables of a run, read together and checked together."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.distill.asking.ask_table import AskTable
from stillwatch.distill.asking.batch_table import BatchTable
from stillwatch.distill.asking.teacher import TeacherTable
from stillwatch.distill.curves.curve_table import CurveTable
from stillwatch.distill.filtering.filters import FilterTable
from stillwatch.distill.game.gad_table import GadTable
from stillwatch.distill.money.budget import BudgetTable
from stillwatch.distill.money.prices import PriceTable
from stillwatch.distill.permit.permission import Permission
from stillwatch.distill.questions.table import QuestionsTable
from stillwatch.distill.scores.score_table import ScoreTable
from stillwatch.distill.training.train_table import TrainTable
from stillwatch.errors import ConfigError, InvalidInputError

__all__ = ["RunFile", "read_run_file"]


class RunFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a run is told; each table is described where its stage is.

    Attributes:
        teacher: who is asked.
        questions: what is asked.
        name: of the run; its folder and its page are called by it; "" takes the file's name.
        out: the run's folder, relative to the file; "" takes the name, beside the file.
        seed: of the order of the questions, and of whatever has no seed of its own.
        permission: on what basis the teacher may be distilled; without it nothing is asked.
        judge: a model that judges answers, where a check or the filter wants one; as `teacher`.
        ask: how fast.
        batch: how batches are cut and watched, where `ask.batch` is true.
        budget: the most that may be spent.
        prices: what tokens cost, where the package's table is not right.
        filter: which answers are kept.
        train: which student, and how.
        gad: the black-box on-policy method, where `train.method` is "gad".
        score: the held-out items.
        curve: the fit, and the treadmill.
    """

    teacher: TeacherTable
    questions: QuestionsTable
    name: str = ""
    out: str = ""
    seed: int = 0
    permission: Permission | None = None
    judge: TeacherTable | None = None
    ask: AskTable = AskTable()
    batch: BatchTable = BatchTable()
    budget: BudgetTable = BudgetTable()
    prices: PriceTable = PriceTable()
    filter: FilterTable = FilterTable()
    train: TrainTable = TrainTable()
    gad: GadTable = GadTable()
    score: ScoreTable = ScoreTable()
    curve: CurveTable = CurveTable()


def read_run_file(path: Path) -> RunFile:
    """Read a run file; relative folders in `[teacher]` and `[train]` begin at the file's folder.

    Args:
        path: the TOML file.

    Returns:
        The settings, every value checked.

    Raises:
        ConfigError: the file cannot be read, is no TOML, has an unknown key or a value that breaks
            a rule; the message names the file, the key and what it must be.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        message = f"{path}: the run file cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: not TOML: {error}"
        raise ConfigError(message) from error
    for needed in ("teacher", "questions"):
        if needed not in document:
            message = f"{path}: the table [{needed}] must be there"
            raise ConfigError(message, hint="docs/distill.md has a whole run file")
    try:
        found = msgspec.convert(_located(document, path.parent), RunFile, strict=False)
    except msgspec.ValidationError as error:
        message = f"{path}: {_told(error)}"
        hint = getattr(error.__cause__, "hint", None)
        raise ConfigError(message, hint=hint) from error
    except InvalidInputError as error:
        message = f"{path}: {error}"
        raise ConfigError(message, hint=error.hint) from error
    return msgspec.structs.replace(found, name=found.name or path.stem)


def _located(document: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make folders absolute, and turn decimals into what each place wants."""
    found: dict[str, Any] = _plain(document)
    budget = document.get("budget")
    if isinstance(budget, dict) and "usd" in budget:
        found["budget"]["usd"] = budget["usd"]
    if "prices" in document:
        found["prices"] = document["prices"]
    for table in (found["teacher"], found.get("judge")):
        if isinstance(table, dict) and isinstance(table.get("folder"), str) and table["folder"]:
            table["folder"] = str(base / table["folder"])
    student = found.get("train", {})
    student = student.get("student") if isinstance(student, dict) else None
    if isinstance(student, dict):
        for name in ("folder", "config", "tokenizer", "template"):
            if isinstance(student.get(name), str) and student[name]:
                student[name] = str(base / student[name])
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _told(error: msgspec.ValidationError) -> str:
    """Say `[train] steps: ...` instead of `... - at `$.train.steps``."""
    text, found, place = str(error).rpartition(" - at `$")
    if not found:
        return str(error)
    if text.startswith("["):  # a table's own rule, which names its table
        return text
    table, _, key = place.rstrip("`").lstrip(".").partition(".")
    return f"[{table}] {key}: {text}" if key else f"[{table}]: {text}"
