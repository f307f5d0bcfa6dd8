"""Hashes of files: what did not change is read once, what changed is noticed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from stillwatch.distill import file_digests
from stillwatch.distill.file_digests import FileCache, file_sha256, folder_digest, model_digest
from stillwatch.distill.origin.manifest import file_fact, write_manifest


class _Reader:
    """Hashes, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.n_read = 0

    def __call__(self, path: Path) -> str:
        self.n_read += 1
        return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files written a moment ago count as old, as they are some seconds later."""
    monkeypatch.setattr(file_digests, "_TICK_NS", -1)


@pytest.mark.usefixtures("settled")
def test_what_did_not_change_is_read_once(tmp_path: Path) -> None:
    """However often it is asked for; a fresh hash reads it again."""
    reader = _Reader()
    cache, path = FileCache(reader), tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    found = {cache.of(path) for _ in range(5)}
    assert ({hashlib.sha256(b"a" * 100).hexdigest()}, 1) == (found, reader.n_read)
    cache.of(path, fresh=True)
    assert 2 == reader.n_read


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("how", ["in place", "replaced", "grown", "backdated"])
def test_a_change_is_noticed(how: str, tmp_path: Path) -> None:
    """Bytes of the same length, another file of the same dates, one more byte, dates put back."""
    cache, path = FileCache(_Reader()), tmp_path / "weights"
    path.write_bytes(b"aa")
    assert hashlib.sha256(b"aa").hexdigest() == cache.of(path)
    before = path.stat()
    time.sleep(0.02)  # the next tick of the file system's clock
    if how == "replaced":
        (tmp_path / "new").write_bytes(b"bb")
        os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
        (tmp_path / "new").replace(path)
    else:
        path.write_bytes(b"bbb" if how == "grown" else b"bb")
    if how == "backdated":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == cache.of(path)


def test_a_file_written_just_now_is_read_again(tmp_path: Path) -> None:
    """Within one tick of its clock a file can change unseen, so its hash is not kept."""
    reader = _Reader()
    cache, path = FileCache(reader), tmp_path / "weights"
    path.write_bytes(b"aa")
    for _ in range(2):
        cache.of(path)
    assert 2 == reader.n_read


@pytest.mark.usefixtures("settled")
def test_the_seal_notices_a_change(tmp_path: Path) -> None:
    """A manifest written again names the new bytes, and only those files are read anew."""
    for name in ("kept.jsonl", "curve.json"):
        (tmp_path / name).write_bytes(b"1")
    first = write_manifest(tmp_path, now=1.0).files
    time.sleep(0.02)
    (tmp_path / "kept.jsonl").write_bytes(b"2")
    second = write_manifest(tmp_path, now=2.0).files
    assert first["curve.json"] == second["curve.json"]
    assert hashlib.sha256(b"2").hexdigest() == second["kept.jsonl"].sha256


@pytest.mark.usefixtures("settled")
def test_all_who_hash_share_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher's identity, student's identity and seal read a folder's weights once together."""
    reader = _Reader()
    monkeypatch.setattr(file_digests, "_HASHES", FileCache(reader))
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "model.safetensors").write_bytes(b"w" * 1000)
    model_digest(tmp_path)
    folder_digest(tmp_path)
    facts = [file_fact(tmp_path / name) for name in ("config.json", "model.safetensors")]
    assert facts[1].sha256 == file_sha256(tmp_path / "model.safetensors")
    assert 2 == reader.n_read
