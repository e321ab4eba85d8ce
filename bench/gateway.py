"""The gateway that is measured: a real `speedsms serve` on fresh data, fsync on, one api, one worker."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from machine import CLOSED_CONNECTIONS, Load, closed_loop, cpu_s, free_port, pss_mb

from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings

ACCOUNT = "bench"
CONTENT = "Ma xac thuc cua ban la 493027, het han sau 5 phut"
_COMMAND = [sys.executable, "-c", "import sys; from speedsms.cli import main; sys.exit(main())"]
NULL_CHANNEL = (
    ("channel", "add", "null", "sim", 'mode="null"'),  # quoted: a bare null is JSON's
    ("route", "add", "null"),
)
WEBHOOKS_IN_FLIGHT = 100
_BALANCE_VND = 10**14
_READY_S = 60.0
_DRAIN_S = 180.0
_RATE_LIMIT = 10_000_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. db: its owner's connection, autocommit."""

    port: int
    token: str
    python: dict[str, psutil.Process]
    postgres: psutil.Process
    db: psycopg.Connection[Any]
    environment: dict[str, str]
    directory: Path

    def speedsms(self, *words: str) -> Any:
        """One command of an operator."""
        return speedsms(words, self.environment, self.directory)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def credentials(self) -> str:
        return base64.b64encode(f"{self.token}:x".encode()).decode()

    def cpu_s(self) -> dict[str, float]:
        """By group of processes."""
        spent = {name: cpu_s([process]) for name, process in self.python.items()}
        return spent | {"postgres": cpu_s([], self.postgres)}

    def pss_mb(self) -> float:
        """Memory of all Python processes."""
        return pss_mb(list(self.python.values()))

    def template(self, directory: Path, *, stamped: bool = False, otp: bool = False) -> Path:
        """The raw request of the open loop; {N} is its counter of 9 digits.

        stamped: the text says when it left us, in 16 digits, µs. otp: a one-time password.
        """
        kind = '"sms_type":4,"sender":"Verify"' if otp else '"sms_type":2,"sender":""'
        stamp, growth = (" T={T}", 6 + 13) if stamped else ("", 6)
        body = f'{{"to":["84912345678"],"content":"{CONTENT} {{N}}{stamp}",{kind}}}'
        head = (
            f"POST /index.php/sms/send HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            "Content-Type: application/json\r\n"
            f"Authorization: Basic {self.credentials}\r\nContent-Length: {len(body) + growth}\r\n\r\n"
        )
        path = directory / "request"
        path.write_bytes((head + body).encode())
        return path

    def one(self, sql: str, **params: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self.db.execute(sql, params).fetchone()
        assert row
        return row

    def drained(self) -> None:
        """Wait until every message is final. Raises TimeoutError."""
        deadline = time.monotonic() + _DRAIN_S
        while self.one("SELECT EXISTS (SELECT FROM ready) OR EXISTS (SELECT FROM flight)")[0]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"messages are not final after {_DRAIN_S} s")
            time.sleep(0.1)

    def finals(self, since: datetime, until: datetime) -> tuple[int, int, datetime]:
        """(messages that became final since, those of them up to `until`, when the last one did)."""
        return self.one(
            """SELECT count(*), count(*) FILTER (WHERE at <= %(until)s), coalesce(max(at), %(since)s)
               FROM final WHERE account_id = (SELECT id FROM account WHERE name = %(account)s)
               AND message >= first_id(%(since)s::timestamptz - interval '1 minute', 38)
               AND at >= %(since)s""",
            since=since,
            until=until,
            account=ACCOUNT,
        )


@contextmanager
def gateway(directory: Path, furnish: Sequence[Sequence[str]] = NULL_CHANNEL) -> Iterator[Gateway]:
    """Start it, give it an account, a token, prices and what `furnish` says; stop it at the end."""
    port = free_port()
    environment = os.environ | {
        "SPEEDSMS_DATA_DIR": str(directory / "data"),
        "SPEEDSMS_HTTP_PORT": str(port),
        "SPEEDSMS_LOG_LEVEL": "warning",
        "SPEEDSMS_WEBHOOKS_ALLOW_LOOPBACK": "true",
        "SPEEDSMS_WEBHOOKS_IN_FLIGHT": str(WEBHOOKS_IN_FLIGHT),
    }
    ready = directory / "ready.json"
    serve = subprocess.Popen([*_COMMAND, "serve", "--ready-file", str(ready)], env=environment, cwd=directory)
    try:
        _await(ready, serve)
        token = _furnish(environment, directory, furnish)
        url = Cluster(ClusterSettings(directory / "data")).admin_url
        postgres = int((directory / "data/pgdata/postmaster.pid").read_text().split()[0])
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SHOW fsync").fetchone() == ("on",)
            yield Gateway(
                port, token, _python(serve.pid), psutil.Process(postgres), db, environment, directory
            )
    finally:
        serve.terminate()
        serve.wait(60)


def _await(ready: Path, serve: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while not ready.exists():
        if serve.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(
                f"bench: the gateway did not start (exit code {serve.returncode}); it says why above"
            )
        time.sleep(0.05)


def speedsms(words: Sequence[str], environment: dict[str, str], directory: Path) -> Any:
    """One command; its data."""
    done = subprocess.run(
        [*_COMMAND, *words, "--json"],
        env=environment,
        cwd=directory,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)["data"]


def account_words(name: str) -> Sequence[Sequence[str]]:
    """Make an account that lacks nothing."""
    return (
        ("account", "create", name, "bench@example.com"),
        ("account", "topup", name, str(_BALANCE_VND), "--key", "bench"),
        ("account", "set", name, f"rate_limit={_RATE_LIMIT}"),
    )


def closed(url: str, seconds: int, credentials: str, recipients: int) -> Load:
    """Sends to so many recipients each, as fast as replies come."""
    variables = {"CREDENTIALS": credentials, "CONTENT": CONTENT, "RECIPIENTS": str(recipients)}
    return closed_loop(url, seconds, CLOSED_CONNECTIONS[recipients], variables)


def _furnish(environment: dict[str, str], directory: Path, more: Sequence[Sequence[str]]) -> str:
    for words in (
        *account_words(ACCOUNT),
        ("price", "set", "sms", "250", "--type", "2"),
        ("price", "set", "sms", "250", "--type", "4"),
        *more,
    ):
        speedsms(words, environment, directory)
    return str(speedsms(["token", "create", ACCOUNT], environment, directory)["token"])


def _python(supervisor: int) -> dict[str, psutil.Process]:
    serve = psutil.Process(supervisor)
    named = {"supervisor": serve}
    for child in serve.children():
        words = child.cmdline()
        if "speedsms.gateway.app" in words:
            named[words[words.index("speedsms.gateway.app") + 1]] = child
    assert set(named) == {"supervisor", "api", "worker"}, named
    return named
