"""The admin: who may enter, what is shown, what is done and written down."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.unit.guard.conftest import Served, served

from stillwatch.guard.admin.gate import refuse_place
from stillwatch.guard.admin.settings import AdminConfig
from stillwatch.guard.admin.traffic import Histogram
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.recording.audit import read_audit, verify_audit
from stillwatch.guard.wall.verdict import CampaignVerdict, Verdict, VerdictTable

Make = Callable[..., GuardConfig]
FAR = 4e9  # expiry after every test
PAGES = ("", "campaigns", "campaign?campaign_id=web-1", "accounts", "account?account=ann",
         "decisions", "policy", "log")  # fmt: skip


def name_web(config: GuardConfig, *accounts: str) -> None:
    """Write a verdict on accounts."""
    config.state.mkdir(parents=True, exist_ok=True)
    table = VerdictTable(config.verdict_path)
    campaign = CampaignVerdict("web-1", 1e9, 1e9, 1e-7, "m1", summary="one <queue> of questions")
    table.write([Verdict(account, campaign, 1e9, FAR) for account in accounts])
    table.close()


class Browser:
    """A browser's cookies and forms, as far as the pages need them."""

    def __init__(self, gateway: Served) -> None:
        self.gateway = gateway
        self.cookie = ""
        self.text = ""

    async def get(self, path: str = "", **headers: str) -> int:
        """Open a page; its text is in `text`."""
        return await self._send("GET", path, None, headers)

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> int:
        """Send a form."""
        return await self._send("POST", path, urlencode(fields), headers)

    async def act(self, what: str, **fields: str) -> int:
        """Send an order with the login's own form token, and show where it leads."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.text)
        assert token is not None
        status = await self.post("act", {"csrf": token[1], "act": what, "why": "test", **fields})
        await self.get(fields.get("back", ""))
        return status

    async def login(self, offered: str = "admin-token") -> int:
        """Log in as ruth."""
        return await self.post("login", {"by": "ruth", "token": offered})

    async def _send(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> int:
        lines = {"cookie": self.cookie} | headers
        if body is not None:
            lines["content-type"] = "application/x-www-form-urlencoded"
        async with self.gateway.client.request(
            method, f"{self.gateway.url}/stillwatch/{path}", data=body, headers=lines,
            allow_redirects=False,
        ) as response:  # fmt: skip
            self.lines = response.headers
            given = response.headers.get("set-cookie")
            self.cookie = given.partition(";")[0] if given else self.cookie
            self.text = (await response.read()).decode()
            return response.status


@asynccontextmanager
async def browsed(config: GuardConfig) -> AsyncIterator[Browser]:
    """A gateway with somebody logged in."""
    async with served(config) as gateway:
        browser = Browser(gateway)
        assert 303 == await browser.login()
        yield browser


async def test_login(make_config: Make) -> None:
    """Without a login every page leads to the form; a wrong token opens nothing."""
    async with served(make_config()) as gateway:
        browser = Browser(gateway)
        assert [303] * len(PAGES) == [await browser.get(page) for page in PAGES]
        assert "/stillwatch/login" == browser.lines["location"]
        assert 401 == await browser.login("guess")
        assert ("", True) == (browser.cookie, "not the admin token" in browser.text)
        assert 303 == await browser.login()
        flags = browser.lines["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/stillwatch"} <= set(flags)
        assert [200] * 5 == [await browser.get(p) for p in ("", "campaigns", "accounts", "log",
                                                            "policy")]  # fmt: skip
        assert "frame-ancestors 'none'" in browser.lines["content-security-policy"]
        assert 200 == await browser.get("")
        token = re.search(r'name="csrf" value="([^"]+)"', browser.text)[1]
        cookie = browser.cookie
        assert 303 == await browser.post("logout", {"csrf": token})
        browser.cookie = cookie
        assert 303 == await browser.get("")


async def test_guessing(make_config: Make) -> None:
    """After twenty wrong tokens in a minute the form takes none, not even the right one."""
    async with served(make_config()) as gateway:
        browser = Browser(gateway)
        assert [401] * 20 == [await browser.login("guess") for _ in range(20)]
        assert [429, 429] == [await browser.login("guess"), await browser.login()]


async def test_forged_forms(make_config: Make) -> None:
    """A form of another site changes nothing: no token, a wrong one, another origin."""
    config = make_config()
    name_web(config, "ann")
    async with browsed(config) as browser:
        await browser.get("")
        token = re.search(r'name="csrf" value="([^"]+)"', browser.text)[1]
        form = {"act": "clear", "account": "ann", "days": "9", "why": "x"}
        assert [403] * 4 == [
            await browser.post("act", form),
            await browser.post("act", form | {"csrf": token[:-1] + "x"}),
            await browser.post("act", form | {"csrf": token}, origin="http://evil.example"),
            await browser.post("act", form | {"csrf": token}, **{"sec-fetch-site": "cross-site"}),
        ]
        assert "ann" in browser.gateway.state.board.verdicts
        origin = browser.gateway.url
        assert 303 == await browser.post("act", form | {"csrf": token}, origin=origin)
        assert {} == dict(browser.gateway.state.board.verdicts)


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("127.0.0.1", {b"host": b"localhost:8900"}, None),
        ("127.0.0.1", {b"host": b"127.0.0.1:8900"}, None),
        ("::1", {b"host": b"[::1]:8900"}, None),
        ("127.0.0.1", {b"host": b"guard.example:8900"}, None),
        ("10.1.2.3", {b"host": b"guard.example"}, None),
        ("127.0.0.1", {b"host": b"evil.example:8900"}, 421),
        ("127.0.0.1", {b"host": b"127.0.0.1.evil.example"}, 421),
        ("127.0.0.1", {}, 421),
        ("192.0.2.7", {b"host": b"localhost"}, 403),
        (None, {b"host": b"localhost"}, 403),
        ("127.0.0.1", {b"host": b"localhost", b"x-forwarded-for": b"192.0.2.7"}, 403),
    ],
)
def test_place(peer: str | None, headers: dict[bytes, bytes], expected: int | None) -> None:
    """Only loopback and named networks come in, by loopback's names and named hosts."""
    config = AdminConfig(hosts=("guard.example",), peers=("10.0.0.0/8",))
    refusal = refuse_place(config, peer, headers, trusted_hops=0)
    assert expected == (refusal.status if refusal is not None else None)


def test_place_behind_a_proxy() -> None:
    """Behind a proxy of ours the client counts, not the proxy, which is always near."""
    lines = {b"host": b"localhost", b"x-forwarded-for": b"192.0.2.7"}
    refusal = refuse_place(AdminConfig(), "127.0.0.1", lines, trusted_hops=1)
    assert refusal is not None
    near = lines | {b"x-forwarded-for": b"127.0.0.1"}
    assert None is refuse_place(AdminConfig(), "127.0.0.1", near, trusted_hops=1)


async def test_rebinding(make_config: Make) -> None:
    """A stranger's name that points at loopback reaches neither pages nor API."""
    async with served(make_config()) as gateway:
        for path in ("/stillwatch/login", "/stillwatch/admin/verdicts", "/metrics"):
            async with gateway.client.get(
                gateway.url + path,
                headers={"host": "evil.example", "authorization": "Bearer admin-token"},
            ) as response:
                assert 421 == response.status
        assert 3.0 == gateway.state.metrics.value("admin_refused", code="admin_host")


async def test_pages(make_config: Make) -> None:
    """Every page shows what is known, and escapes it."""
    config = make_config()
    name_web(config, "ann", "<b>eve</b>")
    async with browsed(config) as browser:
        assert 200 == (await browser.gateway.ask(key="key-bob"))[0]
        assert 403 == (await browser.gateway.ask())[0]
        texts = {}
        for page in PAGES:
            assert 200 == await browser.get(page), page
            texts[page] = browser.text
            assert not re.search(r"<script|<link|<img|https?://", browser.text), page
        assert "&lt;b&gt;eve&lt;/b&gt;" in texts["campaign?campaign_id=web-1"]
        assert "one &lt;queue&gt; of questions" in texts["campaign?campaign_id=web-1"]
        assert "1 campaign of 2 accounts" in texts[""]
        assert 2 == texts["decisions"].count('class="time"')
        assert "campaign blocked" in texts["account?account=ann"]
        assert 404 == await browser.get("campaign?campaign_id=nobody")
        assert 404 == await browser.get("nothing")


async def test_orders_by_page(make_config: Make) -> None:
    """Orders of a page hold at once, can be undone, and are written down with who and why."""
    config = make_config()
    name_web(config, "ann", "bob")
    async with browsed(config) as browser:
        back = "campaign?campaign_id=web-1"
        await browser.get(back)
        gateway = browser.gateway
        assert 403 == (await gateway.ask())[0]
        await browser.act("campaign", campaign_id="web-1", order="lift", days="3", back=back)
        assert 200 == (await gateway.ask())[0]
        assert "Undo" in browser.text
        await browser.act("campaign/withdraw", campaign_id="web-1", order="lift", back=back)
        await browser.act("campaign", campaign_id="web-1", order="pin", action="observe", back=back)
        assert 200 == (await gateway.ask())[0]
        await browser.act("campaign", campaign_id="web-1", order="pin", action="nuke", back=back)
        assert "Nothing was changed" in browser.text
        await browser.act("clear", account="bob", days="5")
        assert {"ann"} == set(gateway.state.board.verdicts)
        await browser.act("campaign", campaign_id="web-1", order="false_positive", days="365")
        assert set() == set(gateway.state.board.verdicts)
        assert {"ann"} == gateway.state.table.false_positives()
        await browser.get("campaigns")
        await browser.act("campaign/withdraw", campaign_id="web-1", order="false_positive")
        assert set() == gateway.state.table.false_positives()
    login, *events = [e for e in read_audit(config.audit_path) if "by" in e.detail]
    assert ("login", "ruth") == (login.kind, login.detail["by"])
    assert ["lifted", "withdrawn", "pinned", "cleared", "false-positive", "withdrawn"] == [
        event.kind for event in events
    ]
    assert {("ruth", "page", "test")} == {
        (e.detail["by"], e.detail["via"], e.detail["why"]) for e in events
    }
    verify_audit(config.audit_path)


async def test_api(make_config: Make) -> None:
    """The API gives out what the pages show, and takes the same orders."""
    config = make_config()
    name_web(config, "ann")
    async with served(config) as gateway:
        await gateway.ask()
        base = "/stillwatch/admin/"

        async def get(path: str) -> dict:
            status, body = await gateway.admin("GET", base + path)
            assert 200 == status, path
            return json.loads(body)

        assert ("enforce", 1) == ((found := await get("overview"))["mode"], found["campaigns"])
        assert {"questions": 1, "block": 1, "output_tokens": 0} == found["day"]
        assert ["web-1"] == [c["campaign_id"] for c in (await get("campaigns"))["campaigns"]]
        assert ["ann"] == [
            a["account"] for a in (await get("campaign?campaign_id=web-1"))["accounts"]
        ]
        assert 1 == (await get("account?account=ann"))["seen"]["refused"]
        assert "block" == (await get("decisions?account=ann"))["decisions"][0]["action"]
        assert [] == (await get("accounts?like=nobody"))["accounts"]
        assert "ok" == (await get("health"))["status"]
        order = {"campaign_id": "web-1", "order": "lift", "by": "bot", "why": "appeal"}
        assert 200 == (await gateway.admin("POST", base + "campaign", **order))[0]
        line = (await get("audit?most=1"))["lines"][0]
        assert ("lifted", "bot", "appeal") == (line["kind"], line["detail"]["by"],
                                               line["detail"]["why"])  # fmt: skip
        for path, body in (
            ("campaign", {"campaign_id": "nobody", "order": "lift"}),
            ("campaign", {"campaign_id": "web-1", "order": "pin", "action": "nuke"}),
            ("clear", {"account": "ann", "days": -1}),
            ("clear", {"acount": "ann"}),
        ):
            assert 400 == (await gateway.admin("POST", base + path, **body))[0], path
        assert 200 == (await gateway.admin("POST", base + "reload"))[0]
        assert 400 == (await gateway.admin("GET", base + "audit?most=0"))[0]
        assert 404 == (await gateway.admin("GET", base + "campaign?campaign_id=nobody"))[0]


async def test_verified(make_config: Make) -> None:
    """An admin can say that an account has shown who it is, and take it back."""
    async with served(make_config()) as gateway:
        path = "/stillwatch/admin/verify"
        assert 200 == (await gateway.admin("POST", path, account="ann", days=2))[0]
        now = gateway.state.clock.now()
        assert gateway.state.board.is_verified("ann", now)
        assert 200 == (await gateway.admin("POST", path, account="ann", days=0))[0]
        assert not gateway.state.board.is_verified("ann", now)


async def test_sessions_end(make_config: Make) -> None:
    """A login ends after its time."""
    config = replace(make_config(), admin=AdminConfig(session_s=1e-6))
    async with browsed(config) as browser:
        assert 303 == await browser.get("")


async def test_metrics(make_config: Make) -> None:
    """Counters and histograms are Prometheus text, and count every answered question."""
    parser = pytest.importorskip("prometheus_client.parser")
    async with served(make_config()) as gateway:
        for _ in range(3):
            await gateway.ask()
        _, body = await gateway.admin("GET", "/metrics")
    families = {f.name: f for f in parser.text_string_to_metric_families(body.decode())}
    assert all(family.documentation or family.type == "gauge" for family in families.values())
    samples = {
        (s.name, s.labels.get("le")): s.value for s in families["stillwatch_answer_seconds"].samples
    }
    assert (3.0, 3.0) == (
        samples["stillwatch_answer_seconds_count", None],
        samples["stillwatch_answer_seconds_bucket", "+Inf"],
    )


def test_histogram() -> None:
    """A duration on a bound counts below it; the quantile is the bound that it lies under."""
    histogram = Histogram("")
    histogram.add([0.001, 0.0011, 400.0])
    assert {0.0005: 0, 0.001: 1, 0.0025: 2, 300.0: 2, float("inf"): 3} == {
        bound: n for bound, n in histogram.cumulated()
        if bound in {0.0005, 0.001, 0.0025, 300.0, float("inf")}
    }  # fmt: skip
    assert (0.0025, float("inf")) == (histogram.quantile(0.5), histogram.quantile(1.0))
    assert None is Histogram("").quantile(0.5)


_FRAMES = """<body>{frames}<p id="told"></p><script>
onload = () => {{
  told.textContent = [...document.querySelectorAll('iframe')].map(
    f => f.name + '=' + (f.contentDocument.documentElement.scrollWidth - f.clientWidth)).join(' ');
}}
</script>"""


@pytest.mark.browser
async def test_pages_fit(make_config: Make, tmp_path: Path) -> None:
    """On a phone and on a desktop no page sticks out to the right, with long names too."""
    browser_path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if browser_path is None:
        pytest.skip("no Chromium on this machine")
    config = make_config()
    name_web(config, "ann", "key:" + 64 * "a", *(f"acct-{n:04d}" for n in range(40)))
    frames = []
    async with browsed(config) as browser:
        for key in ("key-ann", "key-bob") * 4:
            await browser.gateway.ask(key=key, model="a-model-with-a-very-long-name-2026-11-01")
        for number, page in enumerate(PAGES):
            await browser.get(page)
            (tmp_path / f"{number}.html").write_text(browser.text)
            frames += [
                f'<iframe name="{page or "now"}@{width}" src="{number}.html" '
                f'style="width:{width}px;height:800px;border:0"></iframe>'
                for width in (390, 1280)
            ]
    (tmp_path / "frames.html").write_text(_FRAMES.format(frames="".join(frames)))
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--allow-file-access-from-files"]
    process = await asyncio.create_subprocess_exec(
        browser_path, *options, f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "frames.html").as_uri(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    told, _ = await process.communicate()
    over = re.search(r'id="told">([^<]+)<', told.decode())[1].split()
    assert {f"{page or 'now'}@{w}=0" for page in PAGES for w in (390, 1280)} == {
        row.replace("&amp;", "&") for row in over
    }
