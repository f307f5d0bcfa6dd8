"""The campaign: many accounts that work one queue of questions and keep every answer.

It exists to be found, on loopback only. The queue is rendered first, as pipelines do: each item has
its wrapper before anybody is chosen to ask it, so what an account asks says nothing of the account.
Around it every account leads an ordinary life: hours, pace, software, addresses and diluting
questions are drawn from the same habits as honest people's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xxhash

from stillwatch.record.exchange import Exchange, Message
from stillwatch.siege.drive import Outcome, Planned, require_loopback
from stillwatch.siege.habits import PROSE_MODEL, SKILLS_MODEL
from stillwatch.siege.persons import Draft, Person, Writer, draw_person
from stillwatch.siege.prose import prose_question
from stillwatch.siege.seats import Account
from stillwatch.siege.settings import DAY_S
from stillwatch.siege.skills import Item, training_items
from stillwatch.siege.voices import open_shelf
from stillwatch.siege.wording import EXACT_WRAPPERS, PROSE_WRAPPERS, draw_place

_ATTEMPTS = 3
_BACKOFF_S = (0.25 * DAY_S, 1.0 * DAY_S)


@dataclass(frozen=True)
class Task:
    """One item of the queue, rendered.

    Attributes:
        model: the model asked.
        wrapper: the pipeline's words above the question.
        line: the question, one line.
        key: unique in the queue.
        item: the skill item with its true answer, or None for prose.
    """

    model: str
    wrapper: str
    line: str
    key: str
    item: Item | None


@dataclass(frozen=True)
class Worker:
    """One account of the campaign.

    Attributes:
        account: id and key.
        cover: whose habits it shows.
        in_system: whether its client sends the wrapper with the account's own system prompt, if
            any; otherwise the wrapper stands above the question.
        lean: how readily it takes prose from the queue (0..1): accounts differ, as people do.
        weight: its share of the work.
        span: days of work, from and to, relative to the first live day.
    """

    account: Account
    cover: Person
    in_system: bool
    lean: float
    weight: float
    span: tuple[float, float]

    def draft(self, task: Task) -> Draft:
        """Word a task the way this account's client sends it.

        Args:
            task: what is asked.

        Returns:
            The draft.
        """
        systems, text = list(self.cover.systems[:1]), task.line
        if self.in_system:
            systems.append(task.wrapper)
        else:
            text = f"{task.wrapper}\n{task.line}"
        messages: tuple[Message, ...] = (Message("user", text),)
        if systems:
            messages = (Message("system", "\n".join(systems)), *messages)
        parameters = self.cover.client.parameters(task.model)
        if task.model == PROSE_MODEL:
            # The pipeline wants the model's own distribution.
            parameters["temperature"] = 1.0
            parameters.pop("top_p", None)
        return Draft(task.model, messages, parameters, task.key)


class Campaign:
    """The copier as an actor of the driver: plans, asks again, retires accounts, keeps answers.

    Args:
        workers: the accounts.
        tasks: the queue, in the order in which it is worked.
        plan: the questions, tasks and dilution, in calendar order.
        end: when the run ends (UTC epoch s); nothing is asked later.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        tasks: Sequence[Task],
        *,
        plan: Sequence[Planned],
        end: float,
    ) -> None:
        self.accounts: tuple[str, ...] = tuple(w.account.account for w in workers)
        self.queue: tuple[Task, ...] = tuple(tasks)
        self.record: list[Exchange] = []
        self.retired: set[str] = set()
        self.kinds: dict[str, str] = {p.request_id: p.kind for p in plan}
        self.workers: tuple[Worker, ...] = tuple(workers)
        self._workers = {w.account.account: w for w in workers}
        self._tasks = {task.key: task for task in tasks}
        self._attempts: dict[str, int] = {}
        self._plan, self._end = tuple(plan), end

    def plan(self, base_url: str) -> list[Planned]:
        """Give the whole plan, once it is sure that it goes nowhere else than to this machine.

        Args:
            base_url: where the driver will send it.

        Returns:
            Questions in calendar order.

        Raises:
            NotPermittedError: `base_url` is not a loopback address.
        """
        require_loopback(base_url)
        return list(self._plan)

    def before_asking(self, planned: Planned) -> Planned | None:
        """Hand a retired account's questions to another one; its dilution is dropped.

        Args:
            planned: the question about to be sent.

        Returns:
            The question to send, or None.
        """
        if planned.account not in self.retired:
            return planned
        if planned.kind != "harvest":
            return None
        return self._hand_over(planned, at=planned.at)

    def on_reply(self, planned: Planned, outcome: Outcome) -> Planned | None:
        """Keep an answer; on a refusal ask again later through another account.

        Args:
            planned: what was asked.
            outcome: what came back; 403 retires the account, 429 sends the question back.

        Returns:
            The question asked again, or None.
        """
        if outcome.status == 200 and outcome.reply is not None:
            if planned.kind == "harvest":
                self._keep(planned, outcome)
            return None
        if outcome.status == 403:
            self.retired.add(planned.account)
        if planned.kind != "harvest":
            return None
        tried = self._attempts[planned.item_key] = self._attempts.get(planned.item_key, 0) + 1
        if tried >= _ATTEMPTS:
            return None
        low, high = _BACKOFF_S
        share = xxhash.xxh64_intdigest(f"{planned.request_id}:wait".encode()) / 2.0**64
        return self._hand_over(planned, at=planned.at + low + (high - low) * share)

    def _hand_over(self, planned: Planned, *, at: float) -> Planned | None:
        free = [a for a in self.accounts if a not in self.retired and a != planned.account]
        if not free or at >= self._end:
            return None
        seed = xxhash.xxh64_intdigest(f"{planned.request_id}:again".encode())
        rng = np.random.default_rng(seed)
        worker = self._workers[free[int(rng.integers(len(free)))]]
        draft = worker.draft(self._tasks[planned.item_key])
        again = worker.account.ask(draft, at=at, client=worker.cover.client, rng=rng)
        self.kinds[again.request_id] = "harvest"
        return replace(again, kind="harvest")

    def _keep(self, planned: Planned, outcome: Outcome) -> None:
        reply = outcome.reply
        assert reply is not None
        item = self._tasks[planned.item_key].item
        self.record.append(
            Exchange(
                exchange_id=planned.request_id,
                account=planned.account,
                started_at=planned.at,
                model=planned.model,
                model_returned=reply.model_returned,
                messages=planned.messages,
                answers=reply.answers,
                parameters=planned.parameters,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                tags={
                    "item_key": planned.item_key,
                    "skill": item.skill if item is not None else "prose",
                    "line": self._tasks[planned.item_key].line,
                },
            )
        )


@dataclass(frozen=True)
class CampaignSizes:
    """How big a campaign is.

    Attributes:
        workers: accounts (count).
        skills: the skills it is after.
        skill_questions: questions of all those skills together (count).
        prose_questions: questions for prose (count).
        dilution: share of its exchanges that only look ordinary (0..1).
        first_day: the day it starts on.
        days: live days of the run.
    """

    workers: int = 150
    skills: tuple[str, ...] = ("date", "roman")
    skill_questions: int = 2_400
    prose_questions: int = 2_000
    dilution: float = 0.25
    first_day: float = 2.0
    days: int = 14


def open_campaign(sizes: CampaignSizes, rng: np.random.Generator, *, start: float) -> Campaign:
    """Open the accounts, fill the queue and spread the work over accounts and days.

    Args:
        sizes: how big it is.
        rng: draws accounts, covers, queue and times.
        start: first moment of the first live day (UTC epoch s).

    Returns:
        The campaign, ready to be planned.
    """
    workers = [_hire(sizes, own) for own in rng.spawn(sizes.workers)]
    tasks = fill_queue(sizes, rng)
    end = start + sizes.days * DAY_S
    n_all = round(len(tasks) / (1.0 - sizes.dilution))
    shares = np.array([w.weight * (w.span[1] - w.span[0]) ** 0.6 for w in workers])
    counts = np.maximum(1, np.round(n_all * shares / shares.sum())).astype(int)
    slots = [
        (at, place)
        for place, (worker, count) in enumerate(zip(workers, counts.tolist(), strict=True))
        for at in worker.cover.rhythm.occasions(
            count, (start + worker.span[0] * DAY_S, start + worker.span[1] * DAY_S), rng
        )
    ]
    slots.sort()
    # Each account is diluted in its own measure; the queue gets the slots that lean to it most.
    measure = rng.beta(1.2, 1.2 / sizes.dilution - 1.2, size=sizes.workers)
    lean = np.array([rng.random() - measure[place] for _, place in slots])
    working = np.zeros(len(slots), dtype=bool)
    working[np.argsort(-lean, kind="stable")[: len(tasks)]] = True
    writers = [
        Writer(w.cover, own) for w, own in zip(workers, rng.spawn(sizes.workers), strict=True)
    ]
    plan: list[Planned] = []
    waiting = _Waiting(tasks)
    for (at, place), works in zip(slots, working.tolist(), strict=True):
        worker = workers[place]
        draft = worker.draft(waiting.take(worker.lean, rng)) if works else writers[place].write()
        asked = worker.account.ask(draft, at=at, client=worker.cover.client, rng=rng)
        plan.append(replace(asked, kind="harvest" if works else "dilution"))
    return Campaign(workers, tasks, plan=plan, end=end)


def fill_queue(sizes: CampaignSizes, rng: np.random.Generator) -> list[Task]:
    """Render the queue: distinct skill items and prose from all topics, shuffled together.

    Args:
        sizes: how many of which.
        rng: draws items, wrappers and order.

    Returns:
        The tasks in working order; no key comes twice.
    """
    wanted = sizes.skill_questions // max(len(sizes.skills), 1)
    drawn: list[tuple[str, str, str, Item | None]] = []
    for skill in sizes.skills:
        items: dict[str, Item] = {}
        for item in training_items(int(rng.integers(2**31)), 2 * wanted, [skill]):
            items.setdefault(item.key, item)
        drawn += [
            (SKILLS_MODEL, item.question, f"{skill}:{key}", item)
            for key, item in list(items.items())[:wanted]
        ]
    corpus = [passage for group in open_shelf().passages.values() for passage in group]
    for number in range(sizes.prose_questions):
        passage = corpus[int(rng.integers(len(corpus)))]
        drawn.append((PROSE_MODEL, prose_question(passage, rng), f"prose:{number:05}", None))
    tasks = []
    for row, place in enumerate(rng.permutation(len(drawn)).tolist(), start=1):
        model, line, key, item = drawn[place]
        bank = EXACT_WRAPPERS if item is not None else PROSE_WRAPPERS
        wordings = bank[int(rng.random() * len(bank))]
        wrapper = wordings[int(rng.random() * len(wordings))].replace("{row}", str(row))
        tasks.append(Task(model, wrapper, line, key, item))
    return tasks


class _Waiting:
    """The queue while it is handed out: the next task of the model that an account leans to."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._prose = [task for task in reversed(tasks) if task.item is None]
        self._exact = [task for task in reversed(tasks) if task.item is not None]

    def take(self, lean: float, rng: np.random.Generator) -> Task:
        # Leaning must not exhaust one kind early, or the last days would look different.
        left = len(self._prose), len(self._exact)
        odds = lean * left[0], (1.0 - lean) * left[1]
        wants_prose = rng.random() * sum(odds) < odds[0]
        if (wants_prose and left[0]) or not left[1]:
            return self._prose.pop()
        return self._exact.pop()


def _hire(sizes: CampaignSizes, rng: np.random.Generator) -> Worker:
    cover = draw_person(rng)
    org = draw_place(rng) if rng.random() < 0.3 else None
    room = sizes.days - sizes.first_day
    # Most accounts start at once; the rest follow over the next half of the time.
    late = 0.0 if rng.random() < 0.7 else float(rng.uniform(0.0, 0.5 * room))
    begin = sizes.first_day + late
    end = float(sizes.days)
    if rng.random() < 0.25:
        end = float(rng.uniform(begin + 0.3 * (sizes.days - begin), sizes.days))
    return Worker(
        account=Account.draw(rng, org),
        cover=cover,
        in_system=bool(rng.random() < 0.25),
        lean=float(rng.beta(1.0, 1.0)),
        weight=float(rng.lognormal(0.0, 0.9)),
        span=(begin, end),
    )
