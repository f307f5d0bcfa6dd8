"""Pools: read from a folder, split into families, made up without one."""

import json
from pathlib import Path

import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.siege.traffic.homemade import home_made
from stillwatch.siege.traffic.pools import HARVEST, HUMAN, PUBLIC, load_pools, make_pool, read_pool


def test_families_share_no_source() -> None:
    """What is tuned on and what is reported on have no source in common."""
    for split in (HUMAN, HARVEST):
        assert set() == set(split["tuning"]) & set(split["report"])
    assert PUBLIC["tuning"] != PUBLIC["report"]


def test_reads_a_source(tmp_path: Path) -> None:
    """Questions are read once each, and grouped by a word that several share."""
    folder = tmp_path / "harvest" / "gsm8k"
    folder.mkdir(parents=True)
    texts = [f"Anna has {n} apples in baskets. How many?" for n in range(8)]
    rows = [{"question": text, "answer": "1"} for text in [*texts, texts[0], " "]]
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pool = read_pool(tmp_path, "gsm8k")
    assert tuple(texts) == pool.questions
    assert tuple(range(8)) in pool.topics


def test_odd_and_even_public_prompts_differ(tmp_path: Path) -> None:
    """One collection is split in two without a text in both."""
    folder = tmp_path / "human" / "awesome_prompts"
    folder.mkdir(parents=True)
    lines = [f'a,"act as number {n}",x,y' for n in range(10)]
    (folder / "prompts_clean.csv").write_text("\n".join(["act,prompt,for_devs,type", *lines]))
    even, odd = read_pool(tmp_path, "acts_even"), read_pool(tmp_path, "acts_odd")
    assert 5 == len(even.questions) == len(odd.questions)
    assert set() == set(even.questions) & set(odd.questions)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    """A folder without the pools, and an unknown name, are refused with what was looked for."""
    with pytest.raises(InvalidInputError, match="dolly"):
        load_pools(tmp_path, "tuning")
    with pytest.raises(InvalidInputError, match="families"):
        load_pools(tmp_path, "both")
    with pytest.raises(InvalidInputError, match="pool"):
        read_pool(tmp_path, "nothing")


def test_labels_make_topics() -> None:
    """A label names a topic whatever its size; without labels and common words all is one topic."""
    pool = make_pool("p", [(f"q {n}", "even" if n % 2 else "odd") for n in range(100)])
    assert [50, 50] == [len(rows) for rows in pool.topics]
    assert (tuple(range(3)),) == make_pool("p", [(f"q {n}", None) for n in range(3)]).topics


def test_home_made_families_differ() -> None:
    """Made-up families share no question, and are the same every time."""
    one, two = home_made("tuning", n_questions=100), home_made("report", n_questions=100)
    assert one == home_made("tuning", n_questions=100)
    texts = [{q for pool in pools.human + pools.harvest for q in pool.questions}
             for pools in (one, two)]  # fmt: skip
    assert set() == texts[0] & texts[1]
