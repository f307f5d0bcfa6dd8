"""Every baseline finds what it is meant to find, and only that, on a log without traps."""

import numpy as np
import pyarrow as pa
import pytest

from baselines import cotrait, group_by, mmd_window, synchrotrap
from stillwatch.record.exchange import Exchange, Message, to_batch
from yardstick.observed import observe


@pytest.fixture(scope="module")
def observed(log):
    """The small log in numbers."""
    live, history, table, _ = log
    return observe(live, history, accounts=table)


@pytest.fixture(scope="module")
def web(log, observed):
    """Numbers of the web's accounts."""
    return [i for i, name in enumerate(observed.accounts.to_pylist()) if name in log[3]]


@pytest.mark.parametrize("trait", ["opening", "network", "payment"])
def test_group_by(observed, web, trait: str) -> None:
    """The one value that the web shares is found, with the exchanges that carry it."""
    (group,) = group_by.find_groups(observed, trait)
    assert web == group.accounts.tolist()
    assert observed.rows_of(group.accounts).tolist() == group.rows.tolist()
    assert 20.0 == group.score


def test_group_by_leaves_out_everybodys(observed) -> None:
    """A value that the history knows well is no group."""
    assert [] == group_by.find_groups(observed, "parameters")


def test_cotrait(observed, web) -> None:
    """The web is one component; strangers stay apart."""
    found = cotrait.find_groups(observed)
    assert 3 * len(cotrait.THRESHOLDS) == len(found)
    (group,) = found[cotrait.PUBLISHED]
    assert web == group.accounts.tolist()


def test_synchrotrap(observed, web) -> None:
    """Within a day all members touch the same objects; within five minutes few do."""
    found = synchrotrap.find_groups(observed)
    (group,) = found["all objects, 86400 s, Jaccard 0.5"]
    assert web == group.accounts.tolist()
    assert synchrotrap.PUBLISHED in found
    assert [] == found["all objects, 300 s, Jaccard 0.5"]


def test_synchrotrap_borders() -> None:
    """Two actions on both sides of a window's border match."""
    asked = [(0.0, "other"), (295.0, "same"), (305.0, "same"), (900.0, "same")]
    rows = [
        Exchange(
            exchange_id=str(i), account=f"a{i}", started_at=when, messages=(Message("user", text),)
        )
        for i, (when, text) in enumerate(asked)
    ]
    found = synchrotrap.find_groups(observe([to_batch(rows)]), min_accounts=2)
    assert [[1, 2]] == [g.accounts.tolist() for g in found["all objects, 300 s, Jaccard 0.2"]]


def test_window_test(observed, web) -> None:
    """The web's window alarms, mixed honest windows rarely do, seven prompts are too few."""
    test = mmd_window.WindowTest(observed, rng=np.random.default_rng(1))
    (told,) = mmd_window.told_groups(observed, test, [np.array(web)])
    assert web == told.accounts.tolist()
    rng, people = np.random.default_rng(2), np.setdiff1d(np.flatnonzero(observed.live), told.rows)
    alarms = [test.test(rng.permutation(people)[:64]) for _ in range(40)]
    assert sum(alarm.p_value < 0.05 for alarm in alarms if alarm) <= 4
    assert test.test(np.flatnonzero(observed.live)[:7]) is None
    alarmed = {int(g.accounts[0]) for g in mmd_window.account_groups(observed, test)}
    assert set(web) <= alarmed


def test_kernel_is_the_mean_of_four() -> None:
    """The chain of fourth powers equals four kernels computed one by one."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    squares = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    widths = [0.5 * 1.7, 1.7, 2 * 1.7, 4 * 1.7]
    expected = np.mean([np.exp(-squares / (2 * w * w)) for w in widths], axis=0)
    assert np.allclose(expected, mmd_window.kernel(x, y, median=1.7), atol=1e-6)


def test_embedding() -> None:
    """Vectors have length one; the same words give the same vector; no words give none."""
    texts = pa.array(["a red house", "House, a RED one", "red a house", ""], pa.large_string())
    vectors = mmd_window.embed(texts, np.random.default_rng(3))
    assert np.allclose([1, 1, 1], np.linalg.norm(vectors[:3], axis=1), atol=1e-5)
    assert np.allclose(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.99
