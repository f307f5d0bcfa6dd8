"""The window protocol: can a pool of questions be told from honest ones, and at what true rate.

    python bench/detect_window.py --data DIR [--families report] [--seeds 20] [--embedder DIR]

DIR holds the pools (human/, harvest/). Every human family is an honest side, every harvest family a
copier; a window mixes both. What was chosen was chosen on the tuning families. Honest windows are
disjoint from each other and from the reference within a seed; seeds draw the same pool again.

Beside the window test: its statistic without weighing directions, and the published test (mean of
four RBF kernels, exact) both as published and with its null computed as its score is. `--embedder`
adds the same tests on a local sentence-transformers folder instead of hashed features.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.confirmation.window import RIDGE, WindowTest, sum_features
from stillwatch.siege.traffic.pools import HARVEST, HUMAN, read_pool
from stillwatch.text.features import LENGTH, embedded_features, text_features

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

SIZES = (100, 200, 500, 1500)
MIXES = (0.05, 0.1, 0.25, 0.5, 1.0)
LEVELS = (0.01, 0.05, 0.1)
#: Published: 14 other pairs, 1,500 prompts, true positive rates at a realised rate of 0.3 %.
PUBLISHED = {1500: (0.59, 0.937, 1.0, 1.0, 1.0), 100: (0.013, 0.046, 0.76, 0.989, None)}
#: Questions read of a pool, and honest windows a seed, at most.
_POOL, _WINDOWS = 6_000, 20
#: Small honest pools that stand as one.
_TOGETHER = {"arena_users": "arena", "arena_hard": "arena"}
_PLAIN = 1e9
_MIXED = "mixed"
#: Harvest in the reference.
TAINTS = (0.0, 0.01, 0.02, 0.05)


class Judge(Protocol):
    """A fitted test of windows."""

    def p_value(self, window: Singles) -> float:
        """Give the p-value of a window of questions, shape (n, width)."""


class OursJudge:
    """The window test of `detect`."""

    def __init__(self, reference: Singles, rng: np.random.Generator, *, ridge: float) -> None:
        self._test = WindowTest.fit(reference, rng=rng, ridge=ridge, draws=399)

    def p_value(self, window: Singles) -> float:
        """As `Judge`."""
        return self._test.test(sum_features(window)).p_value


class KernelJudge:
    """The published test: exact MMD^2 with a mean of four RBF kernels.

    Published: the null is one comparison of two reference windows, the score a mean of 20.
    Calibrated: the score is one comparison, too.
    """

    def __init__(
        self, reference: Singles, size: int, rng: np.random.Generator, *, scores: int
    ) -> None:
        self._reference, self._rng, self._scores = reference, rng, scores
        some = reference[rng.permutation(len(reference))[:2000]]
        squares = np.maximum(2 - 2 * (some @ some.T), 0)
        self._median = float(np.sqrt(np.median(squares[np.triu_indices(len(some), 1)])))
        self._table = self._kernel(reference, reference)
        chosen = [rng.permutation(len(reference))[: 2 * size] for _ in range(200)]
        first, second = (self._masks([c[part] for c in chosen])
                         for part in (slice(0, size), slice(size, None)))  # fmt: skip
        turned = second @ self._table
        within = [
            ((mask @ self._table) * mask).sum(1) - mask @ self._table.diagonal()
            for mask in (first, second)
        ]
        across = (first * turned).sum(1)
        pairs = size * (size - 1)
        self._null = np.sort((within[0] + within[1]) / pairs - 2 * across / size**2)

    def p_value(self, window: Singles) -> float:
        """As `Judge`."""
        size = len(window)
        own = self._kernel(window, window)
        cross = self._kernel(window, self._reference).sum(0)
        chosen = [self._rng.permutation(len(self._reference))[:size] for _ in range(self._scores)]
        masks = self._masks(chosen)
        pairs = size * (size - 1)
        within = ((masks @ self._table) * masks).sum(1) - masks @ self._table.diagonal()
        values = (own.sum() - np.trace(own) + within) / pairs - 2 * (masks @ cross) / size**2
        exceed = len(self._null) - int(np.searchsorted(self._null, values.mean(), side="left"))
        return (1 + exceed) / (1 + len(self._null))

    def _kernel(self, first: Singles, second: Singles) -> Singles:
        squares = np.maximum(2 - 2 * (first @ second.T), 0)
        total = np.zeros_like(squares)
        for factor in (0.5, 1.0, 2.0, 4.0):
            total += np.exp(squares * np.float32(-0.5 / (factor * self._median) ** 2))
        return np.asarray(total / 4, dtype=np.float32)

    def _masks(self, chosen: list[NDArray[np.int64]]) -> Singles:
        masks = np.zeros((len(chosen), len(self._reference)), dtype=np.float32)
        for row, columns in enumerate(chosen):
            masks[row, columns] = 1
        return masks


class Method(NamedTuple):
    """A test on a way to see questions.

    `fit` takes reference, window size and generator; `every` of how many seeds it runs one.
    """

    name: str
    space: str
    fit: Callable[[Singles, int, np.random.Generator], Judge]
    every: int = 1


def methods(spaces: list[str]) -> list[Method]:
    """List what is compared."""
    found = []
    for space in spaces:
        found += [
            Method("window test", space, lambda r, n, g: OursJudge(r, g, ridge=RIDGE)),
            Method("plain MMD^2", space, lambda r, n, g: OursJudge(r, g, ridge=_PLAIN)),
            Method("4 kernels, calibrated", space, partial(KernelJudge, scores=1), 5),
            Method("4 kernels, published", space, partial(KernelJudge, scores=20), 5),
        ]  # fmt: skip
    return found


def read_spaces(
    data: Path, names: tuple[str, ...], embedder: Path | None
) -> dict[str, dict[str, Singles]]:
    """Read pools and see their questions each way: space to pool to unit vectors."""
    texts: dict[str, list[str]] = defaultdict(list)
    for name in names:
        texts[_TOGETHER.get(name, name)] += read_pool(data, name).questions
    order = {
        name: np.random.default_rng(len(rows)).permutation(len(rows))[:_POOL]
        for name, rows in texts.items()
    }
    texts = {name: [rows[i] for i in order[name]] for name, rows in texts.items()}
    spaces = {"hashed": {n: _unit(text_features(rows)) for n, rows in texts.items()}}
    if embedder is not None:
        from stillwatch.model.embedder import SentenceEmbedder

        embed = SentenceEmbedder.load(embedder)
        spaces["neural"] = {n: embed(rows) for n, rows in texts.items()}
    for space in spaces.values():
        space[_MIXED] = _mix([space[name] for name in honest_names(names)])
    return spaces


def honest_names(names: tuple[str, ...]) -> list[str]:
    """Name the honest pools among families, those that stand together once."""
    human = {name for part in HUMAN.values() for name in part}
    return list(dict.fromkeys(_TOGETHER.get(name, name) for name in names if name in human))


def _mix(pools: list[Singles]) -> Singles:
    """Take as many questions of every honest pool: a platform with several kinds of customers."""
    each = min(*(len(pool) for pool in pools), _POOL // len(pools))
    rows = np.concatenate([pool[:each] for pool in pools])
    return rows[np.random.default_rng(each).permutation(len(rows))]


def _unit(features: NDArray[np.int8]) -> Singles:
    rows = features.astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6))


class Outcome(NamedTuple):
    """One window's p-value; mix 0 is an honest one."""

    method: str
    space: str
    honest: str
    copier: str
    size: int
    mix: float
    p_value: float


def run_seed(
    spaces: dict[str, dict[str, Singles]],
    honest: str,
    copiers: list[str],
    *,
    seed: int,
    chosen: list[Method],
) -> Iterator[Outcome]:
    """Split one honest pool and judge windows of every size and mix."""
    n_pool = len(spaces["hashed"][honest])
    order = np.random.default_rng(seed).permutation(n_pool)
    for size in SIZES:
        n_test = max(size, n_pool // 4)
        test, reference = order[:n_test], order[n_test:]
        if len(reference) < max(2 * size, 400):
            continue
        for method in chosen:
            if seed % method.every:
                continue
            rng = np.random.default_rng([seed, size, 1])
            space = spaces[method.space]
            rows = _prepared(method, space[honest])
            judge = method.fit(rows[reference], size, rng)
            for start in range(0, min(n_test // size, _WINDOWS) * size, size):
                p_value = judge.p_value(rows[test[start : start + size]])
                yield Outcome(method.name, method.space, honest, "", size, 0.0, p_value)
            for copier in copiers:
                other = _prepared(method, space[copier])
                for mix in MIXES:
                    n_mixed = round(mix * size)
                    if n_mixed > len(other):
                        continue
                    window = np.concatenate([
                        rows[rng.permutation(test)[: size - n_mixed]],
                        other[rng.permutation(len(other))[:n_mixed]],
                    ])
                    p_value = judge.p_value(window)
                    yield Outcome(method.name, method.space, honest, copier, size, mix, p_value)


def _prepared(method: Method, rows: Singles) -> Singles:
    """Give the window test the integers that profiles hold, the exact kernels the vectors."""
    if method.every == 1:
        whole = embedded_features(rows) if method.space != "hashed" else np.rint(LENGTH * rows)
        return np.asarray(whole, dtype=np.float32)
    return rows


def run_tainted(
    space: dict[str, Singles], honest: str, copiers: list[str], *, seed: int
) -> Iterator[tuple[float, float, float]]:
    """Judge windows against a reference that holds copiers' questions.

    Yields share of the reference that is harvest, mix of the window, p-value.
    """
    size = 500
    order = np.random.default_rng(seed).permutation(len(space[honest]))
    rows = np.rint(LENGTH * space[honest][order])
    for number, copier in enumerate(copiers):
        rng = np.random.default_rng([seed, number, 2])
        other = np.rint(LENGTH * space[copier][rng.permutation(len(space[copier]))])
        for taint in TAINTS:
            n_tainted = round(taint * (len(rows) - size))
            if n_tainted + 50 > len(other):
                continue
            reference = np.concatenate([rows[size + n_tainted :], other[:n_tainted]])
            judge = OursJudge(reference, rng, ridge=RIDGE)
            for mix in (0.0, 0.1):
                n_mixed = round(mix * size)
                window = np.concatenate([rows[: size - n_mixed], other[len(other) - n_mixed :]])
                yield taint, mix, judge.p_value(window)


def show_tainted(found: list[tuple[float, float, float]]) -> None:
    """Print what a dirty reference does to the window test."""
    print("\nreference that holds harvest, windows of 500: alarms at 1 | 5 | 10 %")
    for taint in TAINTS:
        for mix in (0.0, 0.1):
            p_values = np.array([p for t, m, p in found if (t, m) == (taint, mix)])
            rates = " |".join(f"{(p_values <= level).mean():6.1%}" for level in LEVELS)
            kind = "honest windows" if not mix else "windows with 10 %"
            print(f"{taint:6.0%} tainted  {kind:<20}{len(p_values):>5}  {rates}")


def show(outcomes: list[Outcome]) -> None:
    """Print realised rates, power, and the hardest pairs."""
    groups: dict[tuple[str, str, int], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.space, outcome.method, outcome.size].append(outcome)
    print(f"{'features':<8}{'test':<24}{'n':>6}{'honest':>8}{'1%':>7}{'5%':>7}{'10%':>7}"
          f"{'  power at 5 %: mix':<20}" + "".join(f"{mix:>7.0%}" for mix in MIXES))  # fmt: skip
    for (space, name, size), rows in sorted(groups.items(), key=lambda g: (g[0][2], g[0][:2])):
        clean = np.array([o.p_value for o in rows if not o.mix])
        rates = [float((clean <= level).mean()) for level in LEVELS]
        powers = [_power(rows, mix, 0.05) for mix in MIXES]
        print(f"{space:<8}{name:<24}{size:>6}{len(clean):>8}"
              + "".join(f"{rate:>7.1%}" for rate in rates) + " " * 20
              + "".join(f"{power:>7.1%}" for power in powers))  # fmt: skip
    for size, figures in PUBLISHED.items():
        told = "".join(f"{f:>7.1%}" if f is not None else f"{'':>7}" for f in figures)
        print(f"{'':8}{'published, other pairs':<24}{size:>6}{'':>8}{'':7}{'0.3%':>7}{'':27}{told}")
    _show_hardest(outcomes)


def _power(rows: list[Outcome], mix: float, level: float) -> float:
    found = [o.p_value <= level for o in rows if o.mix == mix]
    return float(np.mean(found)) if found else float("nan")


def _show_hardest(outcomes: list[Outcome]) -> None:
    print("\nhashed window test, power at 1 % | 5 % by pair, 100 questions at 10 % and 25 %, "
          "500 at 5 %")  # fmt: skip
    ours = [o for o in outcomes if o.space == "hashed" and o.method == "window test"]
    pairs = sorted({(o.honest, o.copier) for o in ours if o.copier})
    for honest, copier in pairs:
        own = [o for o in ours if (o.honest, o.copier) == (honest, copier)]
        cells = [
            f"{_power(part, mix, 0.01):6.0%} |{_power(part, mix, 0.05):5.0%}"
            for size, mix in ((100, 0.1), (100, 0.25), (500, 0.05))
            for part in [[o for o in own if o.size == size]]
        ]
        print(f"{honest:<12}{copier:<14}" + "   ".join(cells))


def main() -> None:
    """Run the protocol and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", choices=("tuning", "report"), default="report")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--honest-seeds", type=int, default=60, help="of honest windows alone")
    parser.add_argument("--embedder", type=Path)
    parser.add_argument("--out", type=Path, help="p-values as JSON lines")
    options = parser.parse_args()
    begun = time.process_time()
    human, harvest = HUMAN[options.families], HARVEST[options.families]
    spaces = read_spaces(options.data, human + harvest, options.embedder)
    print(f"pools seen after {time.process_time() - begun:.0f} CPU-seconds", flush=True)
    outcomes, tainted = list[Outcome](), list[tuple[float, float, float]]()
    for honest in [*honest_names(human), _MIXED]:
        every, hashed = methods(list(spaces)), methods(["hashed"])[:2]
        for seed in range(max(options.seeds, options.honest_seeds)):
            with_copiers = seed < options.seeds
            outcomes += run_seed(
                spaces, honest, list(harvest) if with_copiers else [], seed=seed,
                chosen=every if with_copiers else hashed,
            )  # fmt: skip
            if seed % 2 == 0 and with_copiers and honest != "arena":
                tainted += run_tainted(spaces["hashed"], honest, list(harvest), seed=seed)
        print(f"{honest} done after {time.process_time() - begun:.0f} CPU-seconds", flush=True)
    if options.out:
        lines = (json.dumps(outcome._asdict()) for outcome in outcomes)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    show(outcomes)
    if tainted:
        show_tainted(tainted)


if __name__ == "__main__":
    main()
