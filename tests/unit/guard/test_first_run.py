"""From nothing to a gateway that observes: files, their check, and the commands around them."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.guard.conftest import SECRETS, ScriptedUpstream, served, whole

from stillwatch.cli.main import stillwatch
from stillwatch.errors import ConfigError, EnvironmentUnfitError, InvalidInputError
from stillwatch.guard.config import GuardConfig, Secrets, load_config
from stillwatch.guard.recording.audit import AuditEvent, append_audit
from stillwatch.guard.setup.checking import _upstream
from stillwatch.guard.setup.first_run import read_secrets, write_first_run


def _run(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(stillwatch, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def _loaded(folder: Path, secrets: Secrets) -> GuardConfig:
    """The written configuration, on a free port; the learner takes seconds to start."""
    config = load_config(folder / "guard.toml", secrets=secrets)
    return replace(config, port=0, learner=replace(config.learner, enabled=False))


async def test_serves_at_once(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What `init` writes serves as it is: observes, with the keys that it handed out."""
    folder = tmp_path / "new"
    code, told = _run("guard", "init", folder, "--upstream", upstream.url, "--account", "ann")
    assert 0 == code
    assert "guard check" in told
    secrets = Secrets.from_env(read_secrets(folder / "guard.env", {}))
    config = _loaded(folder, secrets)
    assert ("observe", False) == (config.ladder.mode, config.forward_key)
    account, key = (folder / "handed-out-keys.txt").read_text().split()
    async with served(config) as gateway:
        assert [200, 401] == [(await gateway.ask(key=k))[0] for k in (key, "sk-guess")]
        (exchange,) = await gateway.record()
    assert ("ann", "ann") == (account, exchange.account)
    for name in ("guard.env", "handed-out-keys.txt"):
        assert 0o600 == stat.S_IMODE((folder / name).stat().st_mode)
    for name in ("guard.toml", "keys.jsonl", "guard-state/audit.jsonl"):
        written = (folder / name).read_text()
        assert not any(s in written for s in (key, secrets.admin_token, secrets.hash_key.hex()))


async def test_keys_of_the_clients(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Without accounts the client's own key goes on, and nothing else is needed."""
    write_first_run(tmp_path, upstream=upstream.url)
    secrets = Secrets.from_env(read_secrets(tmp_path / "guard.env", {}))
    async with served(_loaded(tmp_path, secrets)) as gateway:
        assert 200 == (await gateway.ask(key="sk-anybody"))[0]
    assert "Bearer sk-anybody" == upstream.seen[-1].header("authorization")


def test_touches_nothing(tmp_path: Path) -> None:
    """A file that is there stops it before anything is written."""
    (tmp_path / "keys.jsonl").write_text("mine")
    with pytest.raises(EnvironmentUnfitError, match=r"keys\.jsonl: is there already"):
        write_first_run(tmp_path, upstream="http://127.0.0.1:1", accounts=["ann"])
    assert ["keys.jsonl"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("url", ["ftp://x", "http://", 'http://x"', "http://x/v1", "http://x/v1/"])
def test_wrong_upstream(tmp_path: Path, url: str) -> None:
    """What is no base URL is refused before anything is written."""
    with pytest.raises(InvalidInputError, match="upstream must be"):
        write_first_run(tmp_path / "new", upstream=url)
    assert not (tmp_path / "new").exists()


def test_secrets_file(tmp_path: Path) -> None:
    """A file that others may read is refused, so is a line that is no secret; errors show none."""
    path = tmp_path / "guard.env"
    path.write_text("# mine\n\nSTILLWATCH_ADMIN_TOKEN=t0ken=x\nSTILLWATCH_HASH_KEY=aa\n")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others than its owner"):
        read_secrets(path, {})
    path.chmod(0o600)
    found = read_secrets(path, {"STILLWATCH_HASH_KEY": "bb", "HOME": "/"})
    assert {"STILLWATCH_ADMIN_TOKEN": "t0ken=x", "STILLWATCH_HASH_KEY": "bb"} == found
    path.write_text("STILLWATCH_HASH_KEY=aa\nADMIN=s3cret\n")
    with pytest.raises(ConfigError, match=r"guard\.env:2: must be") as refused:
        read_secrets(path, {})
    assert "s3cret" not in str(refused.value)


def test_check(tmp_path: Path) -> None:
    """What is missing is named, the rest is looked at all the same, and the exit code says so."""
    write_first_run(tmp_path, upstream="http://127.0.0.1:9", accounts=["ann"])
    text = (tmp_path / "guard.toml").read_text().replace("# port = 8900", "port = 0")
    (tmp_path / "guard.toml").write_text(text)
    code, told = _run(
        "guard", "check", tmp_path / "guard.toml", "--secrets", tmp_path / "guard.env"
    )
    lines = {line.split(maxsplit=1)[1].split(":")[0]: line.split()[0]
             for line in told.splitlines()}  # fmt: skip
    assert 1 == code
    assert {"configuration": "ok", "keys": "ok", "state": "ok", "reference": "warning",
            "port": "ok", "admin": "ok", "upstream": "FAILED"} == lines  # fmt: skip
    (tmp_path / "keys.jsonl").write_text("{")
    _, told = _run("guard", "check", tmp_path / "guard.toml", "--secrets", tmp_path / "guard.env")
    assert "FAILED   keys" in told


async def test_check_reaches_upstream(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A model server that answers is well, one that fails is not."""
    config = GuardConfig(upstream=upstream.url, state=tmp_path, secrets=SECRETS)
    upstream.script = whole(b'{"data": [{}, {}]}')
    assert (True, "http://127.0.0.1 answers, 2 models") == (await _upstream(config))[1:]
    upstream.script = whole(b"{}", status="401 Unauthorized")
    assert (await _upstream(config)).is_well
    upstream.script = whole(b"{}", status="500 Broken")
    assert not (await _upstream(config)).is_well


def test_verify_log(tmp_path: Path) -> None:
    """A log that was cut off at its end is whole by itself, and not by a hash noted elsewhere."""
    path = tmp_path / "audit.jsonl"
    heads = [append_audit(path, [AuditEvent("named", float(n), {})]) for n in range(3)]
    assert 0 == _run("guard", "verify-log", path, "--expect", heads[2], "--expect", heads[0])[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    code, told = _run("guard", "verify-log", path)
    assert (0, True) == (code, heads[1] in told)
    done = CliRunner().invoke(stillwatch, ["guard", "verify-log", str(path), "--expect", heads[2]])
    assert "no line has the expected hash" in str(done.exception)


async def test_replay_command(make_config, tmp_path: Path) -> None:
    """The command tells how many decisions follow, and takes a copy of the folder."""
    config = make_config()
    async with served(config) as gateway:
        await gateway.ask()
        await gateway.record()
    os.chmod(config.state / "kept", 0o700)
    code, told = _run("guard", "replay", config.state)
    assert (0, "1 decision: 1 as recorded, 0 not\n") == (code, told)
    assert '"same": 1' in _run("guard", "replay", config.state, "--json")[1]
