"""Outcomes of other people's tasks are compared as our own scores are."""

import pytest

from stillwatch.distill.adapters.outcomes import TaskOutcomes, compare_outcomes
from stillwatch.errors import InvalidInputError


def _outcomes(task: str, n: int, **right: int) -> TaskOutcomes:
    values = {
        name: {str(item): float(item < first) for item in range(n)} for name, first in right.items()
    }
    return TaskOutcomes(task, "acc", values)


def test_tasks_side_by_side_and_together():
    """One comparison a task, and over all tasks with items and with tasks weighing the same."""
    outcomes = [
        _outcomes("large", 90, teacher=90, untouched=9, s0=45),
        _outcomes("small", 10, teacher=10, untouched=0, s0=0),
    ]
    found = {c.capability: c.models["s0"].share.value for c in compare_outcomes(outcomes)}
    assert {"large": 0.5, "small": 0.0, "all": 0.45, "mean": 0.25} == found


def test_items_that_one_model_lacks_are_left_out():
    """Only items that every model has are compared."""
    found = TaskOutcomes("t", "acc", {"a": {"1": 1.0, "2": 0.0}, "b": {"1": 0.0, "3": 1.0}})
    comparison = compare_outcomes([found])[0]
    assert (1, 1.0) == (comparison.n_items, comparison.models["a"].share.value)


def test_items_of_one_source_are_one_cluster():
    """A task that tells what its items share has fewer independent sources than items."""
    values = {"a": {str(n): float(n % 2) for n in range(20)}}
    shared = TaskOutcomes("t", "acc", values, {str(n): str(n // 5) for n in range(20)})
    assert (20, 4) == (
        compare_outcomes([shared])[0].n_items,
        compare_outcomes([shared])[0].n_clusters,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [TaskOutcomes("t", "bleu", {"a": {"1": 31.0}})],
        [TaskOutcomes("t", "acc", {"a": {"1": 1.0}, "b": {"2": 1.0}})],
        [_outcomes("t", 2, a=1), _outcomes("u", 2, b=1)],
    ],
)
def test_what_cannot_be_compared_is_refused(wrong):
    """Nothing, a metric that is no share, no common item, and other models are refused."""
    with pytest.raises(InvalidInputError):
        compare_outcomes(wrong)
