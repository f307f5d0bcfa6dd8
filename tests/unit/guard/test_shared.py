"""What gateways share through Redis: tokens, nonces, owners, verdicts, the lease."""

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.unit.guard.redis_server import PASSWORD, RedisServer, running

from stillwatch.errors import ConfigError, EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.guard.routes.owners import Owner
from stillwatch.guard.shared.buckets import SharedBuckets
from stillwatch.guard.shared.changes import MOST_CHANGES, ChangeLog
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import connect, connect_async, demand_one_key
from stillwatch.guard.shared.lease import Lease
from stillwatch.guard.shared.nonces import SharedNonces
from stillwatch.guard.shared.owners import SharedOwners
from stillwatch.guard.shared.seal import Seal
from stillwatch.guard.shared.table import SharedVerdictTable
from stillwatch.guard.wall.decide import Decision
from stillwatch.guard.wall.ladder import Rung, TokenBuckets
from stillwatch.guard.wall.verdict import CampaignVerdict, Verdict

RUNG = Rung("throttle", limit_per_day=24.0, burst=10.0)
ALLOWED = Decision("allow", "c", "campaign within its limit", took=RUNG)
SEAL = Seal(b"h" * 32)
_NUMBERS = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests; each has a prefix of its own."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def shared(server: RedisServer) -> SharedConfig:
    """A configuration that no other test uses."""
    return SharedConfig(server.url, prefix=f"test{next(_NUMBERS)}", timeout_s=0.5)


@pytest.fixture
def client(shared: SharedConfig) -> Iterator[object]:
    """A client that blocks."""
    with connect(shared, PASSWORD) as client:
        yield client


class Memory:
    """A gateway's own memory of nonces and owners."""

    def __init__(self) -> None:
        self.known: dict[str, Owner] = {}
        self.used: set[str] = set()

    async def use(self, nonce: str, until: float) -> bool:
        """Use a nonce."""
        is_new = nonce not in self.used
        self.used.add(nonce)
        return is_new

    async def find(self, stored_id: str) -> Owner | None:
        """Look up an id."""
        return self.known.get(stored_id)

    def note(self, stored_id: str, owner: Owner) -> None:
        """Remember an id."""
        self.known.setdefault(stored_id, owner)

    async def close(self) -> None:
        """Do nothing."""


def _table(folder: Path, name: str, shared: SharedConfig, client: object) -> SharedVerdictTable:
    return SharedVerdictTable(folder / f"{name}.sqlite", ChangeLog(client, shared, SEAL))


def _verdict(account: str, campaign_id: str = "c", *, at: float = 1.0) -> Verdict:
    return Verdict(account, CampaignVerdict(campaign_id, at, at), at, at + 100.0)


def test_seal() -> None:
    """Sealed bytes open under their own name and key only."""
    sealed = SEAL.close("a", b"content")
    assert b"content" == SEAL.open("a", sealed)
    for seal, name, content in (
        (SEAL, "b", sealed),
        (Seal(b"i" * 32), "a", sealed),
        (SEAL, "a", sealed[:-1] + b"?"),
        (SEAL, "a", b""),
    ):
        with pytest.raises(RecordError, match="seal"):
            seal.open(name, content)


@pytest.mark.parametrize(
    "change",
    [{"url": "http://a"}, {"url": "redis://u:secret@a"}, {"prefix": "a b"}, {"lease_s": 0.0}],
)
def test_configuration(change: dict[str, object]) -> None:
    """A wrong setting is refused, and a password in the URL is not repeated."""
    with pytest.raises(InvalidInputError) as error:
        SharedConfig(**change)  # type: ignore[arg-type]
    assert "secret" not in str(error.value)


def test_one_hash_key(shared: SharedConfig, client: object) -> None:
    """Gateways of one prefix have one hash key, or the second does not start to share."""
    demand_one_key(client, shared, SEAL)
    demand_one_key(client, shared, SEAL)
    with pytest.raises(ConfigError, match="STILLWATCH_HASH_KEY"):
        demand_one_key(client, shared, Seal(b"i" * 32))


async def test_one_bucket(shared: SharedConfig) -> None:
    """Two gateways together give out what one bucket holds, and then both refuse."""
    clients = [connect_async(shared, PASSWORD) for _ in range(2)]
    locals_ = [TokenBuckets(), TokenBuckets()]
    gateways = [SharedBuckets(c, shared, local=b) for c, b in zip(clients, locals_, strict=True)]
    settled = [await gateways[n % 2].settle(ALLOWED, 1.0) for n in range(14)]
    assert ["allow"] * 10 + ["throttle"] * 4 == [decision.action for decision in settled]
    assert all(3500 < (d.retry_after_s or 0) <= 3600 for d in settled[10:])
    # From now on the own buckets refuse, and Redis is not asked.
    assert all(local.take("c", 1.0, rung=RUNG) > 0 for local in locals_)
    observed = await gateways[0].settle(ALLOWED._replace(action="observe"), 1.0)
    assert ("observe", "throttle") == (observed.action, observed.would_have)
    for client in clients:
        await client.aclose()


async def test_many_tokens(shared: SharedConfig) -> None:
    """A batch takes all its tokens or none."""
    client = connect_async(shared, PASSWORD)
    buckets = SharedBuckets(client, shared, local=TokenBuckets())
    taken = [await buckets.take("c", RUNG, amount=n) for n in (7.0, 4.0, 3.0)]
    assert [0.0, 3600.0, 0.0] == [round(t.wait_s, -2) for t in taken if t is not None]
    await client.aclose()


async def test_slow_redis(shared: SharedConfig, client: object) -> None:
    """While Redis is slow the own bucket decides, and is not kept waiting question by question."""
    impatient = SharedConfig(shared.url, prefix=shared.prefix, timeout_s=0.02, pause_s=60.0)
    failures: list[int] = []
    own = connect_async(impatient, PASSWORD)
    buckets = SharedBuckets(
        own, impatient, local=TokenBuckets(), on_failure=lambda: failures.append(1)
    )
    client.client_pause(300)  # type: ignore[attr-defined]
    assert [ALLOWED] * 3 == [await buckets.settle(ALLOWED, 1.0) for _ in range(3)]
    assert buckets.is_paused
    assert 3 == len(failures)
    client.ping()  # type: ignore[attr-defined]
    await own.aclose()


async def test_nonces(shared: SharedConfig) -> None:
    """A token counts once for all gateways, and once for each while Redis is away."""
    client = connect_async(shared, PASSWORD)
    one, other = (SharedNonces(client, shared, local=Memory()) for _ in range(2))
    until = time.time() + 60
    assert [True, False, False] == [await g.use("n", until) for g in (one, one, other)]
    away = SharedConfig("redis://127.0.0.1:1/0", timeout_s=0.1)
    failures: list[int] = []
    lone = SharedNonces(
        connect_async(away, None), away, local=Memory(), on_failure=lambda: failures.append(1)
    )
    assert [True, False] == [await lone.use("n", until), await lone.use("n", until)]
    assert [1] == failures
    await client.aclose()


async def test_owners(shared: SharedConfig, client: object) -> None:
    """An answer given out by one gateway is known to the others; a forged owner is nobody."""
    redis = connect_async(shared, PASSWORD)
    one, other = (SharedOwners(redis, shared, seal=SEAL, local=Memory()) for _ in range(2))
    ann, bob = Owner("ann", None, "resp_1"), Owner("bob", "org", "resp_1")
    one.note("resp_1", ann)
    assert ann == await one.find("resp_1")
    await one.close()
    other.note("resp_1", bob)
    await other.close()
    third = SharedOwners(redis, shared, seal=SEAL, local=Memory())
    assert [ann, None] == [await third.find("resp_1"), await third.find("resp_2")]
    (key,) = client.keys(shared.key("owner", "*"))  # type: ignore[attr-defined]
    client.set(key, Seal(b"i" * 32).close(key.decode(), b"\x93\xa3eve\xc0\xa1s"))  # type: ignore[attr-defined]
    assert None is await third.find("resp_1")
    await redis.aclose()


def test_verdicts_travel(tmp_path: Path, shared: SharedConfig, client: object) -> None:
    """What one gateway writes every other decides by, whoever came first or late."""
    one, two = (_table(tmp_path, name, shared, client) for name in ("one", "two"))
    one.write([_verdict("ann")])
    two.write([_verdict("bob")])
    one.clear("ann", until=50.0)
    assert one.generation() == two.generation() == 3
    assert {"bob"} == set(one.load().verdicts) == set(two.load().verdicts)
    late = _table(tmp_path, "late", shared, client)
    assert 3 == late.generation()
    assert (one.load(), frozenset({"ann"})) == (late.load(), late.cleared(1.0))
    for table in (one, two, late):
        table.close()


def test_writers_at_once(tmp_path: Path, shared: SharedConfig, client: object) -> None:
    """Gateways that write at the same time lose nothing, and end with the same table."""
    tables = [_table(tmp_path, f"t{n}", shared, client) for n in range(3)]

    def write(number: int) -> None:
        for n in range(8):
            tables[number].write([_verdict(f"a{number}-{n}", f"c{number}")])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {24} == {table.generation() for table in tables}
    boards = [table.load() for table in tables]
    assert boards[0] == boards[1] == boards[2]
    assert 24 == len(boards[0].verdicts)
    for table in tables:
        table.close()


def test_known_verdicts_go_up(tmp_path: Path, shared: SharedConfig, client: object) -> None:
    """The first gateway's verdicts from before sharing become everybody's."""
    from stillwatch.guard.wall.verdict import VerdictTable

    before = VerdictTable(tmp_path / "one.sqlite")
    before.write([_verdict("ann")])
    before.close()
    one, two = (_table(tmp_path, name, shared, client) for name in ("one", "two"))
    assert 1 == one.generation() == two.generation()
    assert {"ann"} == set(two.load().verdicts)
    one.close()
    two.close()


def test_long_log(tmp_path: Path, shared: SharedConfig, client: object) -> None:
    """The log does not grow for ever, and who slept for long wakes up to the same table."""
    one, sleeper = (_table(tmp_path, name, shared, client) for name in ("one", "sleeper"))
    sleeper.pull()
    for n in range(MOST_CHANGES + 10):
        one.write([_verdict(f"a{n % 5}", at=float(n))])
    length = client.llen(shared.key("changes"))  # type: ignore[attr-defined]
    assert length <= MOST_CHANGES
    assert MOST_CHANGES + 10 == sleeper.generation()
    assert one.load() == sleeper.load()
    one.close()
    sleeper.close()


def test_redis_forgets(tmp_path: Path, shared: SharedConfig, client: object) -> None:
    """A Redis that comes back empty or with an old state is put right by the gateways."""
    one, two = (_table(tmp_path, name, shared, client) for name in ("one", "two"))
    one.write([_verdict("ann")])
    two.pull()
    client.rpop(shared.key("changes"))  # type: ignore[attr-defined]
    assert 1 == two.generation()
    one.write([_verdict("bob")])
    assert 2 == two.generation()
    assert {"ann", "bob"} == set(two.load().verdicts)
    client.delete(*client.keys(shared.key("*")))  # type: ignore[attr-defined]
    # The first to find Redis empty may know nothing itself.
    new = _table(tmp_path, "new", shared, client)
    assert 0 == new.generation()
    assert 2 == one.generation() == two.generation() == new.generation()
    two.write([_verdict("eve")])
    assert 3 == one.generation()
    assert {"ann", "bob", "eve"} == set(one.load().verdicts) == set(two.load().verdicts)
    for table in (one, two, new):
        table.close()


def test_forged_change(tmp_path: Path, shared: SharedConfig, client: object) -> None:
    """Who can write to Redis cannot name an account."""
    one, two = (_table(tmp_path, name, shared, client) for name in ("one", "two"))
    one.write([_verdict("ann")])
    change = client.lindex(shared.key("changes"), 0)  # type: ignore[attr-defined]
    client.rpush(shared.key("changes"), change)  # type: ignore[attr-defined]
    with pytest.raises(RecordError, match="seal"):
        two.generation()
    assert {"ann"} == set(one.load().verdicts)
    one.close()
    two.close()


def test_without_redis(tmp_path: Path) -> None:
    """Known verdicts hold without Redis; a change is refused rather than kept to oneself."""
    away = SharedConfig("redis://127.0.0.1:1/0")
    failures: list[int] = []
    client = connect(away, None)
    log = ChangeLog(client, away, SEAL)
    table = SharedVerdictTable(tmp_path / "t.sqlite", log, on_failure=lambda: failures.append(1))
    assert (0, [1]) == (table.generation(), failures)
    with pytest.raises(EnvironmentUnfitError, match="Redis is away"):
        table.write([_verdict("ann")])
    assert {} == dict(table.load().verdicts)
    table.close()


def test_lease(tmp_path: Path, shared: SharedConfig, client: object) -> None:
    """One gateway finds campaigns; another does when it is gone, and the first may not write."""
    brief = SharedConfig(shared.url, prefix=shared.prefix, lease_s=0.2)
    one, two = (Lease(client, brief, gateway=name) for name in ("one", "two"))
    assert [True, False, True] == [one.take(), two.take(), one.take()]
    one.close()
    assert [True, False] == [two.take(), one.take()]
    table = _table(tmp_path, "one", shared, client)
    table.lease = one.token
    with pytest.raises(RecordError, match="another gateway finds campaigns"):
        table.write([_verdict("ann")])
    assert 0 == table.generation()
    table.lease = two.token
    assert 1 == table.write([_verdict("ann")])
    table.close()
    two.close()


async def test_lease_of_the_dead(shared: SharedConfig, client: object) -> None:
    """A lease that nobody renews runs out; one that is held outlasts its time."""
    brief = SharedConfig(shared.url, prefix=shared.prefix, lease_s=0.15)
    client.set(brief.key("lease"), "dead", px=150)  # type: ignore[attr-defined]
    heir, third = (Lease(client, brief, gateway=name) for name in ("heir", "third"))
    assert not heir.take()
    async with asyncio.timeout(10):
        while not heir.take():  # noqa: ASYNC110 - Redis tells nobody when it runs out
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.4)
    assert not third.take()
    heir.close()
    third.close()


def test_wrong_password(shared: SharedConfig, tmp_path: Path) -> None:
    """A refused password is said, and neither it nor the address is."""
    with connect(shared, "wrong") as client:
        table = _table(tmp_path, "t", shared, client)
        with pytest.raises(EnvironmentUnfitError, match="refuses the password") as error:
            table.pull()
        table.close()
    assert "wrong" not in str(error.value)
    assert "127.0.0.1" not in str(error.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for `localhost` that vouches for itself, its key beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the program openssl")
    path = tmp_path / "redis.pem"
    command = [
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "2", "-subj", "/CN=redis", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(path.with_suffix(".key")), "-out", str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return path


async def test_tls(tmp_path: Path, certificate: Path) -> None:
    """Over TLS the server's certificate and name are checked before the password is sent."""
    with running(tmp_path, certificate) as server:
        url = f"rediss://localhost:{server.port}/0"
        trusted = SharedConfig(url, ca_file=certificate, timeout_s=5.0)
        client = connect_async(trusted, PASSWORD)
        taken = await SharedBuckets(client, trusted, local=TokenBuckets()).take("c", RUNG)
        assert taken is not None
        assert 0.0 == taken.wait_s
        await client.aclose()
        for wrong in (
            SharedConfig(url),
            SharedConfig(url.replace("localhost", "127.0.0.1"), ca_file=certificate),
        ):
            with connect(wrong, PASSWORD) as blocking:
                table = _table(tmp_path, "t", wrong, blocking)
                with pytest.raises(EnvironmentUnfitError, match="Redis is away or refuses"):
                    table.pull()
                table.close()
