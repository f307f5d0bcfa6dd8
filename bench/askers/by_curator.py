"""curator asks: python by_curator.py JOB.json, in an environment that has bespokelabs-curator.

As its documentation shows an LLM over a data set, with its pacing raised out of the way; telemetry,
viewer and live table are off.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

#: Imported by name: the checks of our own code run where these packages may be absent.
curator: Any = importlib.import_module("bespokelabs.curator")
Dataset: Any = importlib.import_module("datasets").Dataset


class Answerer(curator.LLM):  # type: ignore[misc]
    """Asks each row's question."""

    def prompt(self, row: dict[str, str]) -> str:
        """Give the question."""
        return row["q"]

    def parse(self, row: dict[str, str], response: str) -> list[dict[str, str]]:
        """Keep the answer beside its question."""
        return [{"q": row["q"], "a": response}]


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    asker = Answerer(
        model_name=job["model"],
        backend="openai",
        system_prompt=job["system"] or None,
        generation_params={"max_tokens": job["max_tokens"]},
        backend_params={
            "base_url": job["base_url"],
            "max_requests_per_minute": 10**7,
            "max_tokens_per_minute": 10**10,
            "max_concurrent_requests": job["concurrency"],
            "require_all_responses": False,
        },
    )
    asked = [{"q": q} for q in json.loads(Path(job["questions"]).read_text())]
    answered = asker(Dataset.from_list(asked), working_dir=job["folder"])
    with Path(job["out"]).open("w") as out:
        for row in answered.dataset:
            out.write(json.dumps({"q": row["q"], "a": row["a"]}) + "\n")
