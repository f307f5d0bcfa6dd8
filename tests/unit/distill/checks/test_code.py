"""Code runs against its tests, and can do little else."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillwatch.distill.checks import Row, check_of
from stillwatch.distill.checks.code import code_of
from stillwatch.distill.checks.sandbox import Limits, can_confine, run_python
from stillwatch.distill.items import Item
from stillwatch.errors import InvalidInputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
confined = pytest.mark.skipif(
    sys.platform != "linux" or not can_confine(),
    reason="this machine has no Landlock or no namespaces: the sandbox refuses to run",
)
ITEM = Item(item_id="q", messages=())
DOUBLE = "```python\ndef f(x):\n    return x * 2\n```"


def run(source: str, **limits: float) -> tuple[bool, str, str]:
    """Run a source in the sandbox."""
    own = Limits(**{"wall_s": 5.0, "cpu_s": 2, **limits})  # type: ignore[arg-type]
    outcome = run_python([("a.py", source)], limits=own)
    return outcome.passed, outcome.reason, outcome.output.decode()


@confined
async def test_tests() -> None:
    """An answer is right when its code passes the tests, in each way of writing them."""
    check = check_of("code", {"at_once": 2})
    functions = '{"tests": "def check(c):\\n    assert c(2) == 4", "entry_point": "f"}'
    programs = '{"cases": [{"stdin": "3\\n", "stdout": "9"}, {"stdin": "4", "stdout": "16\\n"}]}'
    rows = [
        Row("assert f(2) == 4", DOUBLE, ITEM),
        Row("assert f(2) == 5", DOUBLE, ITEM),
        Row(functions, DOUBLE, ITEM),
        Row(programs, "```py\nimport sys\nprint(int(input()) ** 2)\nsys.exit()\n```", ITEM),
        Row(programs, "print(9)", ITEM),
        Row("assert True", "def f(:", ITEM),
        Row("assert False", "import os\nos._exit(0)", ITEM),
        Row("assert False", "raise SystemExit(0)", ITEM),
    ]
    found = await check.judge_many(rows)
    assert [True, False, True, True, False, False, False, False] == [one.correct for one in found]
    assert "raised AssertionError" == found[1].reason
    assert "another output in case 2 of 2" == found[4].reason


def test_no_tests_no_code() -> None:
    """Without tests the check is blind; an answer without code is wrong."""
    check = check_of("code")
    assert [None, None, None] == [
        check(t, DOUBLE, ITEM).correct for t in ("", '{"cases": []}', "{bad")
    ]
    assert "the answer holds no code" == check("assert 1", "```text\nhi\n```", ITEM).reason
    with pytest.raises(InvalidInputError, match="wall_s must be above 0"):
        check_of("code", {"wall_s": 0})


@confined
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("while True: pass", "killed by signal 24"),
        ("x = 'a' * 10**10", "raised MemoryError"),
        ("open('x', 'w').write('a' * 10**8)", "raised OSError"),
        ("print('x' * 10**8)", "raised OSError"),
    ],
)
def test_limits(source: str, reason: str) -> None:
    """Time, memory and files end at their limits."""
    passed, why, _ = run(source, cpu_s=1)
    assert (False, reason) == (passed, why)


@confined
def test_wall_time() -> None:
    """A child that sleeps is killed, and what it started dies with it."""
    source = "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)"
    assert (False, "ran out of time") == run(source, wall_s=0.3)[:2]


@confined
def test_fork_bomb() -> None:
    """Processes are counted: a fork bomb comes to its end."""
    source = (
        "import os, time\nn = 0\ntry:\n    while n < 500:\n"
        "        if os.fork() == 0: time.sleep(9)\n        n += 1\nexcept OSError:\n    print(n)"
    )
    passed, _, output = run(source, processes=8)
    assert (True, True) == (passed, int(output) <= 8)


@confined
def test_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other files, the network, the environment and other processes are out of reach."""
    (tmp_path / "secret").write_text("secret")
    tmp_path.chmod(0o755)
    monkeypatch.setenv("STILLWATCH_TEST_SECRET", "1")
    source = f"""
import os, socket
def closed(do):
    try:
        do()
    except (OSError, PermissionError):
        return True
print(closed(lambda: open({str(tmp_path / "secret")!r}).read()),
      closed(lambda: open("/etc/passwd").read()),
      closed(lambda: open({str(tmp_path / "new")!r}, "w")),
      closed(lambda: socket.create_connection(("127.0.0.1", 9), 1)),
      closed(lambda: os.kill({os.getpid()}, 0)),
      closed(lambda: os.listdir("/proc")),
      "STILLWATCH_TEST_SECRET" not in os.environ)
"""
    assert "True True True True True True True" == run(source)[2].strip()


@confined
def test_own_folder() -> None:
    """Its own folder is its own: it may write there, and starts from an empty one."""
    source = "import os\nprint(os.listdir())\nopen('x', 'w').write('y')\nprint(open('x').read())"
    assert (True, "", "[]\ny\n") == run(source)


@confined
def test_dies_with_us(tmp_path: Path) -> None:
    """When we are killed, what we ran does not live on."""
    code = (
        "from stillwatch.distill.checks.sandbox import Limits, run_python\n"
        "source = 'print(1, flush=True)\\nimport time\\ntime.sleep(60)'\n"
        "run_python([('a.py', source)], limits=Limits(wall_s=60), must_confine=False)"
    )
    ours = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    children = Path(f"/proc/{ours.pid}/task/{ours.pid}/children")
    watcher = _wait_for(lambda: children.read_text().split())[0]
    below = Path(f"/proc/{watcher}/task/{watcher}/children")
    inner = _wait_for(lambda: below.read_text().split())[0]
    ours.kill()
    ours.wait()
    assert _wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (watcher, inner)))


def _wait_for(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 30
    while not (got := found()) and time.monotonic() < until:
        time.sleep(0.02)
    return got


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("```\nx\n```", "x\n"),
        ("```bash\nls\n```", ""),
        ("```python\na\n```\nthen\n```python\nlonger\n```", "longer\n"),
        ("```python\nunclosed = 1", "unclosed = 1"),
        ("Text\r\n```py\r\nx\r\n```", "x\n"),
    ],
)
def test_code_of(answer: str, code: str) -> None:
    """The code is found in what people write around it."""
    assert code == code_of(answer)


def test_code_of_entry_point() -> None:
    """The block that defines the wanted function goes before a longer one."""
    answer = "```python\ndef f(): pass\n```\n```python\nprint(f(), f(), f(), f())\n```"
    assert "def f(): pass\n" == code_of(answer, entry_point="f")
