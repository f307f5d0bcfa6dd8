"""What other people's tasks found, compared as our own scores are: paired, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stillwatch.distill.scores.comparing import Comparison, Field, Marks, compare_all
from stillwatch.errors import reject


@dataclass(frozen=True)
class TaskOutcomes:
    """One metric of one task, item by item, for every model that ran it.

    Attributes:
        task: the task's name.
        metric: the metric's name there.
        values: by model, by item: 0..1, higher = better.
        clusters: what an item shares with others, by item, where the task tells.
    """

    task: str
    metric: str
    values: Mapping[str, Mapping[str, float]]
    clusters: Mapping[str, str] = field(default_factory=dict)


def compare_outcomes(outcomes: Sequence[TaskOutcomes], *, level: float = 0.95) -> list[Comparison]:
    """Compare the models task by task, and over all tasks.

    Args:
        outcomes: one metric of each task; the models `teacher` and `untouched` have a meaning.
        level: coverage of every interval.

    Returns:
        One comparison a task, under the task's name; with several also "all" and "mean". Items
        that some model has no value for are left out for all.

    Raises:
        InvalidInputError: no outcomes, tasks with different models, a value outside 0..1, or a task
            without an item that every model has.
    """
    if not outcomes:
        reject("compare_outcomes", "outcomes", "at least one task", got=0)
    names = list(outcomes[0].values)
    columns: dict[str, list[float]] = {name: [] for name in names}
    clusters: list[str] = []
    capabilities: list[str] = []
    for found in outcomes:
        where = f"compare_outcomes: {found.task}"
        if set(found.values) != set(names):
            reject(where, "models", f"the same for every task ({names})", got=list(found.values))
        shared = [item for item in found.values[names[0]] if _all_have(found, item)]
        if not shared:
            reject(where, "items", "had by every model, at least one", got=0)
        for name in names:
            columns[name] += [_share(where, found.values[name][item]) for item in shared]
        clusters += [f"{found.task}\0{found.clusters.get(item, item)}" for item in shared]
        capabilities += [found.task] * len(shared)
    marks = {name: Marks.of(np.array(values)) for name, values in columns.items()}
    return compare_all(Field(marks, np.array(clusters), np.array(capabilities)), level=level)


def _all_have(found: TaskOutcomes, item: str) -> bool:
    return all(item in values for values in found.values.values())


def _share(where: str, value: float) -> float:
    if not 0 <= value <= 1:
        hint = "choose a metric that is right or wrong, or a share, item by item"
        reject(where, "values", "between 0 and 1", got=value, hint=hint)
    return float(value)
