"""What a sandboxed child does to itself before it runs a stranger's code.

Runs under `python -I -S` in the child, so it knows nothing of the package. Each step says whether
it held; `sandbox_child` puts them together. Linux only; numbers are those of <linux/sched.h>,
<linux/prctl.h>, <linux/capability.h>,
<linux/landlock.h>, the same on every architecture but the system calls of old
ones, where Landlock then counts as absent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

_NEW_USER, _NEW_PID, _NEW_NET, _NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_KEEP_CAPABILITIES, _CAPABILITIES_V3, _READ_ANY_FILE = 8, 0x20080522, 1 << 2
_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SUBREAPER = 1, 38, 36
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
#: Rights on files by Landlock's version; TRUNCATE came with 3, IOCTL_DEV with 5.
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 2, 4, 8, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FIRST_OWN_UID = 1_900_000_000
_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


def leave_namespaces() -> tuple[bool, bool]:
    """Leave the network and the process table that the parent lives in.

    Returns:
        Whether the next child is in new ones, and whether it is in a new user namespace too. Root
        needs no new one, and can then become another user.
    """
    wanted = _NEW_NET | _NEW_PID | _NEW_IPC
    if os.geteuid() == 0 and _libc.unshare(wanted) == 0:
        return True, False
    if _libc.unshare(wanted | _NEW_USER) == 0:
        return True, True
    return False, False


def own_uid() -> int:
    """Choose a user that nobody else is, so that limits by user count this child alone.

    Returns:
        A user id; that of "nobody" where large ids are not to be had.
    """
    uid = _FIRST_OWN_UID + os.getpid()
    with contextlib.suppress(OSError):
        # A container may map few ids only.
        for line in Path("/proc/self/uid_map").read_text().splitlines():
            inside, _, length = (int(part) for part in line.split())
            if inside <= uid < inside + length:
                return uid
    return _NOBODY


def become(uid: int) -> None:
    """Become another user for good, without groups and with one power: to read any file.

    That one is needed to open the interpreter's own folder where it lies in a home, and must go, or
    be tied down by `close_files`, before a stranger's code runs.

    Args:
        uid: user and group id.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    _libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setresuid(uid, uid, uid)
    keep_reading(may_read=True)


def keep_reading(*, may_read: bool) -> None:
    """Give up every power over the system, but perhaps that to read files of others.

    Args:
        may_read: keep that one.
    """
    power = _READ_ANY_FILE if may_read else 0
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    _libc.capset(header, struct.pack("=6I", power, power, 0, 0, 0, 0))


def die_with_parent() -> None:
    """Ask to be killed when the parent dies, and to inherit orphans."""
    _libc.prctl(_DEATH_SIGNAL, 9, 0, 0, 0)
    _libc.prctl(_SUBREAPER, 1, 0, 0, 0)


def threads_of(uid: int) -> int:
    """Count the threads of a user.

    Args:
        uid: the user.

    Returns:
        Threads (count) that `/proc` shows.
    """
    count = 0
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def limit(limits: dict[str, int], *, processes: int) -> None:
    """Set the resource limits of this process and of what it starts.

    Args:
        limits: cpu_s, memory_mb, file_mb.
        processes: processes and threads of this user at once (count).
    """
    mb = 1 << 20
    for name, soft, hard in (
        (resource.RLIMIT_CPU, limits["cpu_s"], limits["cpu_s"] + 1),
        (resource.RLIMIT_AS, limits["memory_mb"] * mb, limits["memory_mb"] * mb),
        (resource.RLIMIT_FSIZE, limits["file_mb"] * mb, limits["file_mb"] * mb),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, most = resource.getrlimit(name)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)  # noqa: PLW2901 - never above what is allowed
        resource.setrlimit(name, (soft, hard))


def close_files(readable: Iterable[str], writable: str) -> bool:
    """Let this process and its children see only some files (Landlock), for good.

    Args:
        readable: files and folders that may be read and run.
        writable: the folder in which everything is allowed.

    Returns:
        Whether it holds. From Landlock 4 on TCP is closed too, from 6 on signals to outside.
    """
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    version = _libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    rights = max(mask for since, mask in _RIGHTS.items() if since <= version)
    fields = [rights] + [3] * (version >= 4) + [3] * (version >= 6)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = _libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return False
    held = _allow(rules, writable, rights)
    for path in readable:
        _allow(rules, path, _READ)
    for device in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
        _allow(rules, device, _READ_FILE | _WRITE_FILE)
    held = held and _libc.syscall(_RESTRICT_SELF, rules, 0) == 0
    os.close(rules)
    return held


def _allow(rules: int, path: str, rights: int) -> bool:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    if not os.path.isdir(path):
        rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
    rule = struct.pack("=Qi", rights, place)
    added = _libc.syscall(_ADD_RULE, rules, 1, rule, 0)
    os.close(place)
    return bool(added == 0)
