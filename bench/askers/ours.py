"""Stillwatch asks: python ours.py JOB.json. The job's fields are in `bench/askers/jobs.py`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillwatch.distill.asking.ask import ask_items
from stillwatch.distill.asking.ask_table import AskTable
from stillwatch.distill.asking.attempts import answered_items
from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.permit.permission import Permission, stamp
from stillwatch.record.exchange import Message
from stillwatch.record.journal import Journal


def _items(questions: list[str]) -> Iterator[Item]:
    for question in questions:
        messages = (Message("user", question),)
        yield Item(item_id=item_id_of(messages), messages=messages)


def _run(job: dict[str, Any]) -> None:
    questions = json.loads(Path(job["questions"]).read_text())
    teacher = TeacherTable(
        endpoint=job["base_url"],
        model=job["model"],
        system=job["system"],
        parameters={"max_tokens": job["max_tokens"]},
    )
    permission = Permission(basis="own-model", teacher=job["model"])
    journal_folder = Path(job["folder"]) / "journal"
    with Journal.open(journal_folder) as journal:
        asking = ask_items(
            _items(questions),
            teacher=teacher,
            table=AskTable(concurrency=job["concurrency"], start=job["concurrency"]),
            ledger=Ledger(BudgetTable(tokens=job["budget_tokens"])),
            journal=journal,
            permission=stamp(permission, identify(teacher), time.time()),
        )
        asyncio.run(asking)
    with Path(job["out"]).open("w") as out:
        for answered in answered_items(journal_folder, _items(questions), teacher):
            exchange = answered.exchange
            if exchange.tags["outcome"] == "answered":
                out.write(json.dumps({"q": exchange.question, "a": exchange.answer}) + "\n")


if __name__ == "__main__":
    _run(json.loads(Path(sys.argv[1]).read_text()))
