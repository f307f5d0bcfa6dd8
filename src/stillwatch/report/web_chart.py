"""The web of accounts as a picture: a force layout, still and repeatable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillwatch.report.numbers import plural
from stillwatch.report.svg import circle, element, picture

Floats = NDArray[np.float64]
_ROUNDS = 220


def web_charts(graph: Mapping[str, Any], sizes: Sequence[tuple[float, float]]) -> list[str]:
    """Draw accounts as dots and what they share as lines; accused accounts wear a ring.

    Args:
        graph: the graph of the moat dictionary.
        sizes: width and height of each picture wanted, pixels; the layout is made once.

    Returns:
        One picture a size.
    """
    nodes: Sequence[Mapping[str, Any]] = graph.get("nodes") or []
    at = {node["id"]: i for i, node in enumerate(nodes)}
    edges = [e for e in graph.get("edges") or [] if e["a"] in at and e["b"] in at]
    ends = np.array([[at[e["a"]], at[e["b"]]] for e in edges], dtype=np.int64).reshape(-1, 2)
    weights = np.array([float(e.get("weight") or 1.0) for e in edges])
    layout = spring_layout(len(nodes), ends, weights=weights)
    return [_draw(nodes, ends, _fit_to(layout, size), size=size) for size in sizes]


def _draw(
    nodes: Sequence[Mapping[str, Any]],
    ends: NDArray[np.int64],
    places: Floats,
    *,
    size: tuple[float, float],
) -> str:
    # One path for all lines: thousands of elements would make the page slow.
    strokes = " ".join(
        f"M{places[a][0]:.0f},{places[a][1]:.0f}L{places[b][0]:.0f},{places[b][1]:.0f}"
        for a, b in ends
    )
    parts = [element("path", {"d": strokes, "class": "web-line"})] if strokes else []
    scale = min(1.0, size[0] / 600)
    order = sorted(range(len(nodes)), key=lambda i: _rank(nodes[i]))
    parts.extend(_dot(nodes[i], places[i], scale=scale) for i in order)
    return picture(size, "Accounts and what they share", _describe(nodes), *parts)


def spring_layout(n: int, ends: NDArray[np.int64], *, weights: Floats) -> Floats:
    """Place nodes so that joined ones lie close and others keep apart (Fruchterman, Reingold).

    Args:
        n: nodes (count).
        ends: node numbers of each edge, shape (m, 2).
        weights: pull of each edge, above 0, shape (m,).

    Returns:
        Places of shape (n, 2), the same for the same input: it starts from a sunflower, not luck.
    """
    turn = np.arange(n) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt((np.arange(n) + 0.5) / max(n, 1))
    places = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    if not n:
        return places
    spacing = 1.1 / np.sqrt(n)
    pull = weights / weights.max() if len(weights) else weights
    # A node of many edges is pulled by each of them less, or dense webs would shrink to a point.
    degree = np.maximum(np.bincount(ends.ravel(), minlength=n), 1).astype(np.float64)
    pull = (0.3 + pull) / np.sqrt(degree[ends[:, 0]] * degree[ends[:, 1]])
    for round_ in range(_ROUNDS):
        length = np.einsum("ik,ik->i", places, places)
        squared = np.maximum(length[:, None] + length[None] - 2 * places @ places.T, 1e-6)
        # Repulsion falls off faster than 1 / distance, so that far groups do not flee each other.
        push = spacing**2 / squared * np.exp(-squared)
        force = places * push.sum(axis=1, keepdims=True) - push @ places
        along = places[ends[:, 0]] - places[ends[:, 1]]
        spring = along * (np.linalg.norm(along, axis=1) / spacing * pull)[:, None]
        np.add.at(force, ends[:, 0], -spring * 0.4)
        np.add.at(force, ends[:, 1], spring * 0.4)
        force -= 0.06 * places
        heat = 0.12 * (1 - round_ / _ROUNDS) + 1e-3
        stride = np.maximum(np.linalg.norm(force, axis=1, keepdims=True), 1e-9)
        places = places + force / stride * np.minimum(stride, heat)
    return np.asarray(places, dtype=np.float64)


def _fit_to(places: Floats, size: tuple[float, float]) -> Floats:
    """Scale places into the picture, keeping a margin; each axis by itself fills the width."""
    if not len(places):
        return places
    low, high = np.percentile(places, [0.5, 99.5], axis=0)
    way = np.clip((places - low) / np.maximum(high - low, 1e-9), -0.01, 1.01)
    return np.asarray(16 + way * (np.array(size) - 32), dtype=np.float64)


def _rank(node: Mapping[str, Any]) -> int:
    """Draw honest accounts first and traits last, so that nothing that matters is covered."""
    if node.get("kind") == "trait":
        return 3
    return 1 + (node.get("role") == "campaign") if node.get("named") else 0


def _dot(node: Mapping[str, Any], place: Floats, *, scale: float) -> str:
    centre = (float(place[0]), float(place[1]))
    if node.get("kind") == "trait":
        return circle(centre, 3 * scale, style="trait", hint=str(node.get("label", "shared trait")))
    style = "dot-campaign" if node.get("role") == "campaign" else "dot-honest"
    accused = f", accused as {node['named']}" if node.get("named") else ""
    group = f", {node['group']}" if node.get("group") else ""
    hint = f"{node['id']}: {node.get('role', 'account')}{group}{accused}"
    radius = scale * (3.2 + min((node.get("exchanges") or 0) / 60, 2.5))
    ring = circle(centre, radius + 2.6 * scale, style="ring") if node.get("named") else ""
    return ring + circle(centre, radius, style=style, hint=hint)


def _describe(nodes: Sequence[Mapping[str, Any]]) -> str:
    accounts = [node for node in nodes if node.get("kind") != "trait"]
    web = [node for node in accounts if node.get("role") == "campaign"]
    accused = [node for node in accounts if node.get("named")]
    right = sum(node.get("role") == "campaign" for node in accused)
    return (
        f"{plural(len(accounts), 'account')}, {len(web)} of them of the campaign; "
        f"{len(accused)} accused, {right} of these rightly."
    )
