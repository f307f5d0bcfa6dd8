"""distilabel asks: python by_distilabel.py JOB.json, in an environment that has distilabel.

As its documentation shows a text generation, with what would hold it back raised: answers of any
length, batches as large as the concurrency (one batch is asked at once), its log quiet.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

#: Imported by name: the checks of our own code run where these packages may be absent.
OpenAILLM: Any = importlib.import_module("distilabel.models").OpenAILLM
Pipeline: Any = importlib.import_module("distilabel.pipeline").Pipeline
LoadDataFromDicts: Any = importlib.import_module("distilabel.steps").LoadDataFromDicts
TextGeneration: Any = importlib.import_module("distilabel.steps.tasks").TextGeneration

if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    rows = [{"instruction": q} for q in json.loads(Path(job["questions"]).read_text())]
    size = job["concurrency"]
    with Pipeline("bench", cache_dir=job["folder"]) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=size)
        model = OpenAILLM(
            model=job["model"],
            base_url=job["base_url"],
            api_key="none",
            timeout=600,
            generation_kwargs={"max_new_tokens": job["max_tokens"]},
        )
        # As an attribute, the system prompt is part of the step's signature, and of its cache key.
        load >> TextGeneration(
            llm=model, input_batch_size=size, system_prompt=job["system"] or None
        )
    found = pipeline.run()["default"]["train"]
    with Path(job["out"]).open("w") as out:
        for row in found:
            if row["generation"] is not None:
                out.write(json.dumps({"q": row["instruction"], "a": row["generation"]}) + "\n")
