"""The lease: at any time one gateway's learner finds campaigns for all.

Who holds it keeps it while its process lives; a thread renews it, because finding takes longer than
a lease lasts. A holder that was stopped and comes back too late is turned away where it would
write: the log of changes compares its token.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from typing import TYPE_CHECKING, Final

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import translated

if TYPE_CHECKING:
    import redis

_RENEWALS: Final = 3  # in the time that a lease lasts

# KEYS: lease. ARGV: token, milliseconds. Gives 1 when the lease is ours.
_HOLD: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# The same, for who has it already: one that ran out meanwhile is not taken anew behind its back.
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_GIVE_UP: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Lease:
    """One gateway's claim.

    Args:
        client: that blocks.
        config: names the prefix, and how long a lease lasts.
        gateway: the claimant's id, which others may read.
    """

    def __init__(self, client: redis.Redis, config: SharedConfig, *, gateway: str) -> None:
        self.token = f"{gateway} {secrets.token_hex(8)}"
        self._key = config.key("lease")
        self._milliseconds = max(1, int(config.lease_s * 1000))
        self._every_s = config.lease_s / _RENEWALS
        self._hold = client.register_script(_HOLD)
        self._renew = client.register_script(_RENEW)
        self._drop = client.register_script(_GIVE_UP)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Take the lease, or keep it.

        Returns:
            True when it is ours.

        Raises:
            EnvironmentUnfitError: Redis is away.
        """
        with translated("take the lease"):
            arguments = [self.token, str(self._milliseconds)]
            is_ours = int(self._hold(keys=[self._key], args=arguments)) == 1
        if is_ours and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
            self._thread.start()
        return is_ours

    def close(self) -> None:
        """Give the lease up, so that another need not wait for its end."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(EnvironmentUnfitError), translated("give up the lease"):
            self._drop(keys=[self._key], args=[self.token])

    def _keep(self) -> None:
        while not self._ended.wait(self._every_s):
            # Away for a moment: the next try may find it still ours.
            with contextlib.suppress(EnvironmentUnfitError), translated("renew the lease"):
                arguments = [self.token, str(self._milliseconds)]
                if int(self._renew(keys=[self._key], args=arguments)) != 1:
                    return
