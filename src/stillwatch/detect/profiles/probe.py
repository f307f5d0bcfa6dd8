"""A made-up exchange whose profile shows whether two versions of the package fold alike."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import xxhash

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.record.exchange import Exchange, Message, to_batch
from stillwatch.text.ragged import Ragged

_QUESTION = """You are a careful grader. Read task 17 of 2024 and answer step by step.

Task: Zwölf Boote fahren über den Fluß; 数 them, and give the sum of 3 + 4.5 in JSON only."""


class Probe(msgspec.Struct, frozen=True):
    """What folding the made-up exchange gives.

    Attributes:
        hashes: hex digits of a sum over its digest and its flags.
        features: its features, a byte each, in hex digits. They are rounded from floats, of which
            the last bit may differ between machines.
    """

    hashes: str
    features: str

    def is_like(self, other: Probe) -> bool:
        """Tell whether what gave two probes may be merged.

        Args:
            other: the other one.

        Returns:
            True when the hashes are equal and the features are but for rounding.
        """
        mine, theirs = (bytes.fromhex(probe.features) for probe in (self, other))
        if self.hashes != other.hashes or len(mine) != len(theirs):
            return False
        values = [np.frombuffer(part, np.int8).astype(np.int64) for part in (mine, theirs)]
        return bool(np.all(np.abs(values[0] - values[1]) <= 1))


@lru_cache
def probe_of(config: FoldConfig) -> Probe:
    """Fold the made-up exchange.

    Args:
        config: how.

    Returns:
        What it gives.
    """
    exchange = Exchange(
        exchange_id="probe", account="probe", started_at=1.0e9, model="m", user_agent="agent/1",
        messages=(Message("system", "Be brief and exact."), Message("user", _QUESTION)),
        parameters={"temperature": 0.5}, tools_hash="t", org="o", network_hash="n",
        input_tokens=40, output_tokens=9,
    )  # fmt: skip
    # at the finest level, whatever memory there is: so nothing goes unseen
    finest = msgspec.structs.replace(config, memory_bytes=2**40)
    profiles = fold([to_batch([exchange])], finest)
    features = profiles.totals.kernel[0].astype(np.int8).tobytes().hex()
    return Probe(_sum_up(profiles), features)


def _sum_up(profiles: Profiles) -> str:
    total = xxhash.xxh3_64()
    total.update(str(profiles.totals.flags.tolist()).encode())
    for name, column in profiles.digests._asdict().items():
        total.update(name.encode())
        for part in (column.values, column.offsets) if isinstance(column, Ragged) else (column,):
            values = part.tolist() if isinstance(part, np.ndarray) else part.to_pylist()
            total.update(str(values).encode())
    return total.hexdigest()
