"""Leader clustering of sets, compiled: millions of members a second."""

from __future__ import annotations

from stillwatch.detect.profiles.profile import Ints


def lead(values: Ints, starts: Ints, *, n_members: int, least: float) -> Ints:
    """Cluster sets by their first member: each joins the leader that it is most alike, or leads.

    Args:
        values: members of all sets end to end, each below `n_members`, distinct within a set.
        starts: set `i` is `values[starts[i]:starts[i + 1]]`; the largest set first.
        n_members: how many different members there are.
        least: Jaccard similarity (0..1] from which on a set joins a leader.

    Returns:
        Number of each set's leader, from 0 in order of appearance, shape (n_sets,).
    """
    from stillwatch.detect.profiles import loops

    found: Ints = loops.lead(values, starts, (n_members, float(least)))
    return found
