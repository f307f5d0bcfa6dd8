"""Questions of a large pool: rows a second and memory, from JSON lines to the order of asking.

    python bench/distill_questions.py --rows 1000000 --near 0.7

Writes synthetic questions of 8 to 40 words (a tenth of them copies with a word added), reads them
with a held-out set of 1,000 to look out for, and prints what `build_questions` took. CPU time and
memory are of this process alone; reading all items back in their order is measured apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.questions import FileTable, QuestionsTable, build_questions
from stillwatch.distill.questions.table import Columns
from stillwatch.record.exchange import Message

LETTERS = "abcdefghijklmn"  # 14 to the fourth: 38,416 words


def questions(n: int, seed: int) -> Iterator[str]:
    """Make questions.

    Args:
        n: how many.
        seed: of their words.

    Yields:
        Texts.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    # Letters alone: a digit would begin another word.
    words = ["".join(letters) for letters in product(LETTERS, repeat=4)]
    text = ""
    for number in range(n):
        if number % 10 == 9:
            text += " please"
        else:
            picked = rng.integers(0, len(words), int(rng.integers(8, 41)))
            text = " ".join([words[place] for place in picked.tolist()])
        yield text


def main() -> None:
    """Measure one pool."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--near", type=float, default=0.0)
    given = parser.parse_args()
    held_out = [
        Item(item_id=item_id_of(messages), messages=messages)
        for messages in ((Message("user", text),) for text in questions(1000, 1))
    ]
    columns = Columns(question="question", truth="answer", capability="skill", cluster="passage")
    source = FileTable(path="pool.jsonl", columns=columns)
    table = QuestionsTable(files=(source,), near_duplicates=given.near)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pool.jsonl")
        with path.open("w") as file:
            for n, text in enumerate(questions(given.rows, 0)):
                row = {"question": text, "answer": "x" * 200}
                file.write(json.dumps(row | {"skill": f"s{n % 7}", "passage": f"p{n // 5}"}) + "\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        found = build_questions(table, base=Path(folder), seed=0, held_out=held_out)
        built = time.process_time()
        n_read = sum(1 for _ in found.items)
        read = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = found.counts
    print(
        f"rows {counts.questions:,}, near-duplicates {counts.near_duplicates:,}, items {n_read:,}"
    )
    print(f"built in {built - start:.1f} CPU-s, read back in {read - built:.1f} CPU-s")
    print(f"memory at most {peak / 1024:.0f} MB, {before / 1024:.0f} MB of it before")


if __name__ == "__main__":
    main()
