"""The learner: a second process that reads the journal, finds campaigns and writes verdicts.

It is a process and not a thread because folding and finding hold the interpreter for seconds, and
a gateway's slowest answers would pay for that. What it folds it keeps by day, so a new one knows
what the old one knew and reads only the journal's tail.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.detect import DetectConfig, Profiles, find_campaigns, fold, merge, vet
from stillwatch.errors import StillwatchError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.learning.daybook import DayBook
from stillwatch.guard.learning.folding import DAY_S, Folded, RecordFolder
from stillwatch.guard.learning.judging import Judge
from stillwatch.guard.learning.learned import Learned
from stillwatch.guard.recording.audit import AuditEvent, append_audit
from stillwatch.guard.wall.verdict import VerdictTable
from stillwatch.record.store import scan_store

if TYPE_CHECKING:
    from stillwatch.guard.shared.learning import LearnerSharing

#: Profiles that stay in memory between learnings (bytes); larger ones are read again, which takes
#: a second or two each time.
_RESTING_BYTES: Final = 64 * 2**20
#: Between looks whether the gateway still lives, and how long a learning may outlive it.
_LOOK_S, _OUTLIVES_S = 2.0, 60.0


class Learner:
    """Learns; lives in the second process, and works without it in a test or a notebook.

    Args:
        config: the gateway's.
    """

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._detect = DetectConfig(fdr=config.learner.fdr)
        self._sharing = _sharing(config, self._detect)
        sharing = self._sharing
        self._table = VerdictTable(config.verdict_path) if sharing is None else sharing.table
        self._judge = Judge(config, self._table)
        self._book = DayBook(config.profiles_path, self._detect.fold)
        self._record = RecordFolder(
            config.journal_path, self._book, fold=self._detect.fold, store=config.learner.store
        )
        self._reference: Profiles | None = None
        self._n_vetted_out = 0
        self._oldest = 0

    def close(self) -> None:
        """Make durable what was folded, and close the verdict table."""
        try:
            self._record.save(oldest=self._oldest)
        finally:
            if self._sharing is not None:
                self._sharing.close()
            else:
                self._table.close()

    def learn(self, until: float) -> Learned:
        """Fold what began before a time, find campaigns and write their verdicts.

        Among gateways that share, the one that holds the lease finds, in the profiles of all.

        Args:
            until: UTC epoch seconds; later exchanges wait for the next learning.

        Returns:
            What was found.

        Raises:
            RecordError: the journal, the reference, the verdict table or the audit log fails.
            EnvironmentUnfitError: the disk is full, or the shared state is away.
        """
        began = time.monotonic()
        self._oldest = int(until // DAY_S) - self._config.learner.window_days
        folded = self._record.update(until, oldest=self._oldest)
        try:
            learned = self._find(until, folded)
        finally:
            self._rest()
        lag_s = None
        if folded.oldest_end is not None and not self._config.simulation:
            lag_s = time.time() - folded.oldest_end
        return msgspec.structs.replace(
            learned,
            seconds=time.monotonic() - began,
            lag_s=lag_s,
            n_waiting=self._record.n_waiting,
            n_vetted_out=self._n_vetted_out,
        )

    def _find(self, until: float, folded: Folded) -> Learned:
        if self._sharing is None:
            return self._found(self._book.whole(self._oldest), until, n_folded=folded.n_exchanges)
        shared = self._sharing.put_together(self._book, folded.days, now=until)
        if shared.others is None:
            return Learned(
                at=until, generation=self._table.generation(), n_folded=folded.n_exchanges,
                campaigns=(), role="follower",
            )  # fmt: skip
        mine = self._book.whole(self._oldest)
        every = merge(mine, shared.others.profiles, self._detect.fold)
        learned = self._found(every, until, n_folded=folded.n_exchanges)
        others = len(shared.others.gateways)
        return msgspec.structs.replace(learned, role="holder", others=others)

    def _found(self, profiles: Profiles, until: float, *, n_folded: int) -> Learned:
        findings = find_campaigns(profiles, self._calibration(profiles, until), self._detect)
        learned = self._judge.judge(findings, at=until, n_folded=n_folded)
        return msgspec.structs.replace(learned, n_accounts=profiles.n_accounts)

    def _calibration(self, profiles: Profiles, at: float) -> Profiles | None:
        """Give the honest traffic: the reference, and whoever was accused and is honest."""
        path = self._config.learner.reference
        if path is None:
            return None
        if self._reference is None:
            self._reference = self._vetted(path, at)
        honest = self._table.false_positives()
        if not honest:
            return self._reference
        names = pa.array(sorted(honest), profiles.accounts.type)
        chosen = pc.is_in(profiles.accounts, value_set=names).to_numpy(zero_copy_only=False)
        return merge(self._reference, profiles.select(chosen), self._detect.fold)

    def _vetted(self, path: Path, at: float) -> Profiles:
        """Fold the reference and leave out whatever web it holds, which would hide its like."""
        vetted = vet(fold(scan_store(path), self._detect.fold), self._detect)
        self._n_vetted_out = sum(len(web.accounts) for web in vetted.webs)
        if vetted.webs:
            detail = {"webs": len(vetted.webs), "accounts": self._n_vetted_out}
            append_audit(self._config.audit_path, [AuditEvent("reference-vetted", at, detail)])
        return vetted.profiles

    def _rest(self) -> None:
        self._book.rest(most_bytes=_RESTING_BYTES)
        pa.default_memory_pool().release_unused()
        # What was freed lies in the C library's own store: half of what a learning took.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def _sharing(config: GuardConfig, detect: DetectConfig) -> LearnerSharing | None:
    if config.shared.url is None:
        return None
    from stillwatch.guard.shared.learning import LearnerSharing  # needs the package redis

    return LearnerSharing(config, detect.fold)


def learner_main(pipe: Connection, config: GuardConfig) -> None:
    """Run a learner as a process: answers each time sent over the pipe until the pipe ends.

    Args:
        pipe: receives floats (until when to learn), sends back `Learned` as bytes or a
            `StillwatchError`; its end is the order to stop, also when the gateway was killed.
        config: the gateway's.
    """
    # Ctrl-C goes to the whole group: the gateway stops us in order by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive, name="outlive", daemon=True).start()
    learner: Learner | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), pipe:
        while True:
            until = pipe.recv()
            try:
                learner = learner or Learner(config)
                answer: Any = msgspec.msgpack.encode(learner.learn(until))
            except StillwatchError as error:
                answer = error
            pipe.send(answer)
    if learner is not None:
        learner.close()


def main() -> None:
    """Run as the gateway's child, with the pipe's number as argument; the pipe gives the rest."""
    pipe = Connection(int(sys.argv[1]))
    learner_main(pipe, pipe.recv())


def _outlive() -> None:
    """End a learning that is stuck when nobody is left to notice."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    time.sleep(_OUTLIVES_S)
    os._exit(1)
