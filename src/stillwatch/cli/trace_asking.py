"""SUSPECT.toml, and the asking of a suspect: `distill`'s asker with `trace`'s questions.

Neither package knows the other; this is where they meet.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from stillwatch import __version__
from stillwatch.distill.asking.ask import GROUP_S, AskProgress, AskSummary, AskTable, ask_items
from stillwatch.distill.asking.attempts import answered_items
from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.money.prices import PriceTable, price_of
from stillwatch.distill.permit.addresses import shown
from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.record.disk import replace_json
from stillwatch.record.exchange import Message
from stillwatch.record.journal import Journal
from stillwatch.trace.outputs import OUTPUTS, SuspectOutput, write_outputs
from stillwatch.trace.preregister import AnalysisPlan, hash_prompts, read_plan
from stillwatch.trace.suspect import (
    Prompt,
    PromptsTable,
    Purpose,
    check_registered,
    read_prompts,
)


class SuspectFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that SUSPECT.toml says.

    Attributes:
        suspect: who is asked; shaped as the `[teacher]` table of `distill`.
        purpose: why.
        prompts: what.
        name: the suspect's name in the plan; "" takes the file's name.
        out: the folder of the answers, relative to the file; "" takes the name, beside the file.
        plan: the analysis plan, relative to the file.
        exploratory: ask without a plan; the answers are a lead, and no evidence.
        ask: how fast.
        budget: the most that may be spent.
        prices: what tokens cost, where the package's table is not right.
    """

    suspect: TeacherTable
    purpose: Purpose
    prompts: PromptsTable
    name: str = ""
    out: str = ""
    plan: str = ""
    exploratory: bool = False
    ask: AskTable = AskTable()
    budget: BudgetTable = BudgetTable()
    prices: PriceTable = PriceTable()


class PurposeStamp(NamedTuple):
    """Stands where the asker keeps a permission: which model is asked, and for what purpose.

    Attributes:
        permission_id: the purpose's id; a tag of every exchange.
        model: the model's name as it is asked for.
        endpoint: its base URL without secrets.
    """

    permission_id: str
    model: str
    endpoint: str

    def require(self, now: float) -> None:
        """Let every question pass: a test of a suspect does not run out, and trains nothing.

        Args:
            now: the time (UTC epoch seconds).
        """


@dataclass(frozen=True)
class Asking:
    """A suspect that is to be asked.

    Attributes:
        settings: what the file says.
        folder: where its answers lie.
        prompts: what it is asked, in order.
        plan: under which plan, or None.
    """

    settings: SuspectFile
    folder: Path
    prompts: tuple[Prompt, ...]
    plan: AnalysisPlan | None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read SUSPECT.toml, and check it against the plan that it names.

        Args:
            path: the file.

        Returns:
            What is to be asked.

        Raises:
            ConfigError: the file breaks a rule, or is not what the plan says.
        """
        settings, base = read_suspect_file(path), path.parent
        prompts = tuple(read_prompts(base / settings.prompts.file))
        plan = read_plan(base / settings.plan) if settings.plan else None
        if plan is not None:
            asked = {**settings.suspect.parameters, "samples": settings.prompts.samples}
            if settings.suspect.system:
                asked["system"] = settings.suspect.system
            check_registered(plan, settings.name, prompts, asked=asked)
        return cls(settings, base / (settings.out or settings.name), prompts, plan)

    @property
    def journal(self) -> Path:
        """Every attempt, as exchanges."""
        return self.folder / "record" / "journal"

    def items(self) -> Iterator[Item]:
        """Give what is asked: all samples of a question before the next question.

        Yields:
            Items.
        """
        for prompt, sample in self._asked():
            messages = (Message("user", prompt.question),)
            yield Item(
                item_id=item_id_of(messages, sample=sample),
                messages=messages,
                sample=sample,
                origin=f"prompt {prompt.question_id}",
            )

    async def ask(self, on_progress: Callable[[AskProgress], None] | None = None) -> AskSummary:
        """Ask what the record has no answer to yet.

        Args:
            on_progress: called a few times a second.

        Returns:
            What it came to; a budget that is reached is no error.
        """
        settings = self.settings
        identity = identify(settings.suspect)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_settings(None)
        stamp = PurposeStamp(settings.purpose.purpose_id, identity.model, shown(identity.endpoint))
        with Journal.open(self.journal, fsync_interval_s=GROUP_S) as journal:
            return await ask_items(
                self.items(),
                teacher=settings.suspect,
                table=settings.ask,
                ledger=Ledger(settings.budget, price_of(identity.model, settings.prices)),
                journal=journal,
                permission=stamp,
                on_progress=on_progress,
            )

    def write(self, summary: AskSummary) -> int:
        """Write the answers on record as outputs, in the order of the questions.

        Args:
            summary: what asking came to; it goes into ask.json.

        Returns:
            How many answers there are (count).
        """
        n_outputs = write_outputs(self.folder / OUTPUTS, self._outputs())
        self._write_settings(summary)
        return n_outputs

    def _asked(self) -> Iterator[tuple[Prompt, int]]:
        for prompt in self.prompts:
            for sample in range(self.settings.prompts.samples):
                yield prompt, sample

    def _outputs(self) -> Iterator[SuspectOutput]:
        name_of = {prompt.question: prompt.question_id for prompt in self.prompts}
        for item, exchange in answered_items(self.journal, self.items(), self.settings.suspect):
            # An empty answer is what it said; leaving it out would flatter whoever counts.
            name = name_of[item.question]
            yield SuspectOutput(exchange.answer, item.question, name, item.sample)

    def _write_settings(self, summary: AskSummary | None) -> None:
        """Write ask.json: what was asked, of whom, why, and under which plan; no secrets."""
        settings = msgspec.to_builtins(self.settings)
        identity = identify(self.settings.suspect)
        settings["suspect"]["endpoint"] = shown(identity.endpoint)
        document: dict[str, Any] = {
            "tool": f"stillwatch {__version__}",
            "settings": settings,
            "purpose_id": self.settings.purpose.purpose_id,
            "plan_digest": self.plan.digest if self.plan else None,
            "prompts_sha256": hash_prompts(prompt.question for prompt in self.prompts),
            "n_prompts": len(self.prompts),
            "written_at": time.time(),
            "summary": summary,
        }
        replace_json(self.folder / "ask.json", document)


def read_suspect_file(path: Path) -> SuspectFile:
    """Read SUSPECT.toml; a relative folder in `[suspect]` begins at the file's folder.

    Args:
        path: the file.

    Returns:
        The settings, every value checked.

    Raises:
        ConfigError: it is no TOML, has an unknown key, or a value that breaks a rule.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: not TOML: {error}"
        raise ConfigError(message) from error
    for needed in ("suspect", "purpose", "prompts"):
        if needed not in document:
            message = f"{path}: the table [{needed}] must be there"
            raise ConfigError(message, hint="docs/trace.md has a whole file")
    suspect = document["suspect"]
    if isinstance(suspect, dict) and isinstance(suspect.get("folder"), str) and suspect["folder"]:
        suspect["folder"] = str(path.parent / suspect["folder"])
    try:
        found = msgspec.convert(document, SuspectFile, strict=False)
    except (msgspec.ValidationError, InvalidInputError) as error:
        told = str(error).replace("[teacher", "[suspect")
        message = f"{path}: {told}"
        hint = getattr(error, "hint", None) or getattr(error.__cause__, "hint", None)
        raise ConfigError(message, hint=hint) from error
    if found.ask.batch:
        message = f"{path}: [ask] batch must be false: a suspect is asked now"
        raise ConfigError(message)
    if not found.plan and not found.exploratory:
        message = f"{path}: plan must name the analysis plan under which the suspect is asked"
        hint = "`stillwatch trace plan` makes one; exploratory = true asks without, for a lead"
        raise ConfigError(message, hint=hint)
    return msgspec.structs.replace(found, name=found.name or path.stem)
