"""The gateway as clients see it: a real server on loopback, a real database, a clock that stands still."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg
import pytest
from psycopg.types.json import Jsonb

from speedsms.contract.carriers import Carrier, carrier_name
from speedsms.contract.content import ContentRules
from speedsms.contract.senders import Lane
from speedsms.gateway.flow import accept
from speedsms.gateway.flow.accept import Acceptor
from speedsms.gateway.metrics import Metrics
from speedsms.gateway.store.accounts import Directory
from speedsms.gateway.store.db import Database
from speedsms.gateway.store.messages import request_id
from speedsms.gateway.web import http
from speedsms.gateway.web.api.routes import Routes
from speedsms.gateway.web.application import Api
from speedsms.gateway.web.rate import Rate
from speedsms.wire import SmsType

sys.path.insert(0, str(Path(__file__).parent))  # the fake's adapter is a plain module of this folder
VECTORS = Path(__file__).parent / "vectors"
MAX_PARTS = {SmsType(t): parts for t, parts in enumerate((3, 6, 3, 3, 6, 6, 6, 6), 1)}
TOKEN_SETTINGS = ("allow_query_token", "duplicate_window_s", "spend_cap_day_vnd")
COLUMNS = ("balance_vnd", "credit_vnd", "blocked", "api_enabled")
FINAL = {"delivered": 0, "failed": 69, "expired": 70, "cancelled": 71}
NAMED = ("name", "email", *COLUMNS, "suppressed", "blocked_numbers", "senders", "pin_apps", "tokens")
UNSERVED = ("voice/otp", "pin/create", "pin/verify", "mms/send")
GATES = ("007", "008", "009", "500")  # refusals that are older than the endpoint's own steps

# The ledger's trigger refuses deletions; replica mode is how a test takes back what happened.
RESET = """
SET session_replication_role = replica;
DELETE FROM request; DELETE FROM message; DELETE FROM event; DELETE FROM final; DELETE FROM ready;
DELETE FROM flight; DELETE FROM idempotency; DELETE FROM spend; DELETE FROM ad_sent; DELETE FROM transfer;
DELETE FROM rate_window;
UPDATE account a SET balance_vnd = b.balance_vnd, credit_vnd = b.credit_vnd, blocked = b.blocked,
    api_enabled = b.api_enabled, settings = b.settings FROM before.account b WHERE b.id = a.id;
UPDATE token t SET allow_query_token = b.allow_query_token, duplicate_window_s = b.duplicate_window_s,
    spend_cap_day_vnd = b.spend_cap_day_vnd FROM before.token b WHERE b.id = t.id;
"""


def pytest_addoption(parser):
    parser.addoption("--vectors", default=None, help="another folder of golden vectors")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        folder = chosen(metafunc.config)
        found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
        cases = [case for file in found if file.get("kind") == "wire" for case in file["cases"]]
        on_gateway = "world" in metafunc.fixturenames
        metafunc.parametrize(
            "case",
            [pytest.param(case, id=case["id"], marks=marks(case) if on_gateway else ()) for case in cases],
        )


def chosen(config) -> Path:
    return Path(config.getoption("--vectors", default=None) or VECTORS)


def marks(case: dict[str, Any]) -> list[pytest.MarkDecorator]:
    reason = "endpoint not served in this release: answers 009"
    return [pytest.mark.skip(reason=reason)] if any(map(unserved, case["steps"])) else []


def unserved(step: dict[str, Any]) -> bool:
    """Whether a step reaches the handler of an endpoint that is not served yet."""
    path = step["request"]["path"].partition("?")[0]
    served = not any(endpoint in path for endpoint in UNSERVED)
    reached = step["expect"]["status"] in (200, 422, 409, 500)
    return not served and reached and step["expect"].get("json", {}).get("code") not in GATES


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Start(NamedTuple):
    """What was there before the first step."""

    balance_vnd: int
    messages: list[int]


COLUMNS_STORED = (
    "to",
    "carrier",
    "sms_type",
    "sender",
    "text",
    "encoding",
    "units",
    "parts",
    "price_vnd",
    "class",
    "validity_s",
    "state",
)


def described(row: tuple[Any, ...]) -> dict[str, Any]:
    one = dict(zip(COLUMNS_STORED, row, strict=True))
    number = str(one["to"])
    return one | {
        "to": number,
        "carrier": carrier_name(Carrier(one["carrier"]), number),
        "class": Lane(one["class"]).name.lower(),
        "state": "held" if one["state"] else "queued",
    }


class World:
    """One gateway with the accounts of preconditions.json; `begin` brings them back for the next case."""

    def __init__(
        self, folder: Path, admin_url: str, admin: psycopg.Connection, db: Database, port: int
    ) -> None:
        self.admin_url = admin_url
        self.admin = admin
        self.db = db
        self.port = port
        self.given = json.loads((folder / "preconditions.json").read_text("utf-8"))
        self.now = moment(self.given["clock"])
        self.client_ip = self.given["client_ip"]
        self.metrics = Metrics()
        self.app: Api
        self.directory = Directory(db)
        self.acceptor = self.make_acceptor(db, self.directory)

    def make_acceptor(self, db: Database, directory: Directory, **options: Any) -> Acceptor:
        return Acceptor(
            db,
            directory,
            now=lambda: self.now,
            metrics=self.metrics,
            content=ContentRules(MAX_PARTS, optout_text=self.given["ads_optout_text"]),
            **options,
        )

    def make_app(self, db: Database, directory: Directory, acceptor: Acceptor, **options: Any) -> Api:
        async def ready() -> bool:
            return True

        return Api(
            directory=directory,
            routes=Routes(db, acceptor, lambda: self.now),
            rate=Rate(db, lambda: self.now, lambda: 1),
            now=lambda: self.now,
            metrics=self.metrics,
            **{"ready": ready} | options,
        )

    def mounted(self, path: bytes) -> Any:
        return self.app.mounted(path)

    async def answer(self, request: Any) -> Any:
        request.client = self.client_ip
        return await self.app.answer(request)

    # ------------------------------------------------------------ preconditions

    def fill(self) -> None:
        """The accounts, once."""
        run = self.admin.execute
        prices = self.given["prices"]
        price = "INSERT INTO price (kind, sms_type, carrier, country, price_vnd) VALUES (%s, %s, %s, %s, %s)"
        for sms_type, vnd in prices["sms_type"].items():
            run(price, ("sms", sms_type, "", "", vnd))
        for row in prices["overrides"]:
            run(price, ("sms", row["sms_type"], row["carrier"], "", row["price_vnd"]))
        for country, vnd in prices["foreign"].items():
            run(price, ("sms", 0, "", country, vnd))
        for kind in ("voice", "mms"):
            run(price, (kind, 0, "", "", prices[kind]))
        for row in self.given["portability"]:
            run("INSERT INTO portability VALUES (%s, %s)", (row["e164"], row["carrier"]))
        for account in self.given["accounts"]:
            self._fill_account(account)
        run("CREATE SCHEMA before")
        run("CREATE TABLE before.account AS TABLE account")
        run("CREATE TABLE before.token AS TABLE token")

    def _fill_account(self, account: dict[str, Any]) -> None:
        run = self.admin.execute
        settings = {key: value for key, value in account.items() if key not in NAMED}
        row = run(
            "INSERT INTO account (name, email, balance_vnd, credit_vnd, blocked, api_enabled, settings)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
            (
                account["name"],
                account["email"],
                *(account[c] for c in COLUMNS),
                Jsonb(settings | {"ads_attested_by": "x"}),
            ),
        ).fetchone()
        assert row
        for s in account["senders"]:
            extra = {"class": "care", "gsm_only": False, "two_way": False, "mms": False} | s
            run(
                "INSERT INTO sender (account_id, kind, id, class, status, gsm_only, two_way, mms, skeleton)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    row[0],
                    s["kind"],
                    s["id"],
                    *(extra[k] for k in ("class", "status", "gsm_only", "two_way", "mms")),
                    s["id"],
                ),
            )
        for reason, numbers in (
            ("do_not_call", account["suppressed"]),
            ("blocked", account["blocked_numbers"]),
        ):
            for number in numbers:
                run("INSERT INTO suppression VALUES (%s, %s, %s)", (row[0], number, reason))
        for t in account["tokens"]:
            run(
                "INSERT INTO token (account_id, hash, hint, scopes, allow_ip, allow_query_token,"
                " duplicate_window_s, spend_cap_day_vnd, test) VALUES (%s, %s, '', %s, %s, %s, %s, %s, %s)",
                (
                    row[0],
                    sha256(t["token"].encode()).digest(),
                    t["scopes"],
                    t["allow_ip"],
                    *(t[k] for k in TOKEN_SETTINGS),
                    t["test"],
                ),
            )

    def begin(self, given: dict[str, Any]) -> Start:
        """Back to preconditions.json, then the case's own."""
        self.admin.execute(RESET)
        self.now = moment(given.get("now", self.given["clock"]))
        self.client_ip = given.get("client_ip", self.given["client_ip"])
        self.directory.forget()
        changes = given.get("set", {})
        self.app = self.make_app(
            self.db, self.directory, self.acceptor, get_send=changes.get("get_send", True)
        )
        for key, value in changes.items():
            self._change(given["account"], key, value)
        for request in given.get("messages", ()):
            self._store(request.get("account", given["account"]), request)
        for ad in given.get("ads_sent", ()):
            self.admin.execute(
                "INSERT INTO ad_sent SELECT id, %s, %s FROM account WHERE name = %s",
                (ad["to"], self.now - timedelta(seconds=ad["age_s"]), given["account"]),
            )
        stored = self.admin.execute("SELECT id FROM message").fetchall()
        return Start(self.balance_vnd(given["account"]), [row[0] for row in stored])

    def balance_vnd(self, account: str) -> int:
        row = self.admin.execute("SELECT balance_vnd FROM account WHERE name = %s", (account,)).fetchone()
        assert row
        return int(row[0])

    def stored(self, account: str, start: Start) -> list[dict[str, Any]]:
        """The messages that came since."""
        cut = "SELECT FROM pg_stat_activity WHERE application_name = 'cut' AND datname = current_database()"
        while self.admin.execute(cut).fetchall():
            pass  # its link is gone, and it may still commit
        rows = self.admin.execute(
            "SELECT m.number, m.carrier, q.sms_type, q.sender, q.content, q.encoding, q.units, q.parts,"
            " m.price_vnd, q.lane, q.validity_s, q.due > %s FROM message m JOIN request q ON q.id = m.id >> 7"
            " JOIN account a ON a.id = m.account_id WHERE a.name = %s AND m.id <> ALL(%s) ORDER BY m.id",
            (self.now, account, start.messages),
        ).fetchall()
        return [described(row) for row in rows]

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _change(self, account: str, key: str, value: Any) -> None:
        if key in COLUMNS:
            self.admin.execute(f"UPDATE account SET {key} = %s WHERE name = %s", (value, account))
        elif key in TOKEN_SETTINGS:
            owner = "(SELECT id FROM account WHERE name = %s)"
            self.admin.execute(f"UPDATE token SET {key} = %s WHERE account_id = {owner}", (value, account))
        elif key != "get_send":
            self.admin.execute(
                "UPDATE account SET settings = settings || %s WHERE name = %s", (Jsonb({key: value}), account)
            )

    def _store(self, account: str, request: dict[str, Any]) -> None:
        """A request that already exists, its messages in the states that the case names."""
        run, request_ = self.admin.execute, request_id(request["tranId"], self.now)
        owner = run("SELECT id FROM account WHERE name = %s", (account,)).fetchone()
        assert owner
        run(
            "INSERT INTO request VALUES (%s, %s, %s, 1, 'sms', 2, '', 'x', 'gsm7', 1, 1, 2, 0, 86400,"
            " %s, NULL, false, %s)",
            (request_, request["tranId"], owner[0], self.now, self.now),
        )
        for n, to in enumerate(request["recipients"], 1):
            message = request_ << 7 | n
            run(
                "INSERT INTO message VALUES (%s, %s, %s, 250, 2, 1, false, %s)",
                (owner[0], message, to["e164"], to["entry"]),
            )
            if to["state"] in FINAL:
                run(
                    "INSERT INTO final VALUES (%s, %s, %s, %s, '')",
                    (owner[0], message, FINAL[to["state"]], self.now),
                )
            elif to["state"] in ("sending", "sent", "unknown"):
                run(
                    "INSERT INTO flight VALUES (%s, 1, 0, %s, 1, 1, 2, 1, %s, %s, %s)",
                    (message, owner[0], self.now, self.now, self.now),
                )

    # ------------------------------------------------------------ faults

    @asynccontextmanager
    async def fault(self, name: str | None) -> AsyncIterator[None]:
        """Injected at the outer edge: a dead address, a queue of no length, a link that is cut."""
        async with AsyncExitStack() as stack:
            if name == "db_unavailable":
                db = Database("postgresql://nobody@127.0.0.1:1/none", name="dead")
                directory = Directory(db)
                self.app = self.make_app(db, directory, self.make_acceptor(db, directory))
            elif name == "overloaded":
                acceptor = self.make_acceptor(self.db, self.directory, queue=0)
                self.app = self.make_app(self.db, self.directory, acceptor)
            elif name == "commit_outcome_unknown":
                url = await stack.enter_async_context(cut_link(self.db.url))
                db = await stack.enter_async_context(Database(url, name="cut"))
                acceptor = self.make_acceptor(db, self.directory)
                stack.enter_context(pytest.MonkeyPatch.context()).setattr(accept, "UNKNOWN_FOR_S", 0.3)
                await stack.enter_async_context(running(acceptor.run()))
                self.app = self.make_app(self.db, self.directory, acceptor)
            yield

    @asynccontextmanager
    async def held_up(self, account: str, requests: list[bytes]) -> AsyncIterator[None]:
        """These requests are being accepted, and wait for the row of their account."""
        if not requests:
            yield
            return
        with psycopg.connect(self.admin_url) as holder:
            holder.execute("SELECT FROM account WHERE name = %s FOR UPDATE", (account,))
            links = [await asyncio.open_connection("127.0.0.1", self.port) for _ in requests]
            for (_, writer), request in zip(links, requests, strict=True):
                writer.write(request)
            waits = (
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while not self.admin.execute(waits).fetchall():  # noqa: ASYNC110 - the event is another process's
                await asyncio.sleep(0.005)
            try:
                yield
            finally:
                holder.rollback()
                for reader, writer in links:
                    await reader.read()
                    writer.close()
                    await writer.wait_closed()


@asynccontextmanager
async def running(coroutine: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def cut_link(url: str) -> AsyncIterator[str]:
    """A way to the database that dies when the statement that accepts has been passed on, and stays dead."""
    target = psycopg.conninfo.conninfo_to_dict(url)
    host, port = str(target["host"]), target.get("port", 5432)
    links: list[asyncio.Task[None]] = []
    dead = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if dead.is_set():
            writer.transport.abort()
            return
        here, there = (
            await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else await asyncio.open_connection(host, port)
        )
        links.extend((asyncio.ensure_future(copy(reader, there)), asyncio.ensure_future(copy(here, writer))))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                if b"INSERT INTO request" in data:
                    await writer.drain()
                    dead.set()
        finally:
            writer.close()

    async def kill() -> None:
        await dead.wait()
        for link in links:
            link.cancel()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        async with running(kill()):
            yield psycopg.conninfo.make_conninfo(
                url, host="127.0.0.1", port=server.sockets[0].getsockname()[1]
            )
    finally:
        server.close()
        dead.set()
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)


@pytest.fixture(scope="session")
async def world(server, anyio_backend, pytestconfig) -> AsyncIterator[World]:  # noqa: ARG001 - one loop for all cases
    name = server.clone()
    admin_url = _named(server.admin_url, name)
    async with Database(_named(server.app_url, name), name="wire") as db:
        with psycopg.connect(admin_url, autocommit=True) as admin, socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            world = World(chosen(pytestconfig), admin_url, admin, db, sock.getsockname()[1])
            world.fill()
            stop = asyncio.Event()
            async with running(world.acceptor.run()):
                serving = asyncio.ensure_future(http.serve(world, sock, stop, connections_per_address=0))
                yield world
                stop.set()
                await serving


@pytest.fixture(scope="session")
def fake_world(pytestconfig):
    from fake_world import FakeWorld

    world = FakeWorld(chosen(pytestconfig))
    with world.server:
        yield world


def _named(url: str, database: str) -> str:
    head, _, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{quote(database)}" + (f"?{query}" if query else "")
