"""The gateway that is measured: a real `speedsms serve` on fresh data, fsync on, one api, one worker."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from machine import cpu_s, pss_mb

from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings

ACCOUNT = "bench"
CONTENT = "Ma xac thuc cua ban la 493027, het han sau 5 phut"
_COMMAND = [sys.executable, "-c", "import sys; from speedsms.cli import main; sys.exit(main())"]
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

    def template(self, directory: Path) -> Path:
        """The raw request of the open loop; {N} is its counter."""
        body = f'{{"to":["84912345678"],"content":"{CONTENT} {{N}}","sms_type":2,"sender":""}}'
        head = (
            f"POST /index.php/sms/send HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            "Content-Type: application/json\r\n"
            f"Authorization: Basic {self.credentials}\r\nContent-Length: {len(body) + 6}\r\n\r\n"
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
def gateway(directory: Path) -> Iterator[Gateway]:
    """Start it, give it an account, a token, a price and a null channel; stop it at the end."""
    port = free_port()
    environment = os.environ | {
        "SPEEDSMS_DATA_DIR": str(directory / "data"),
        "SPEEDSMS_HTTP_PORT": str(port),
        "SPEEDSMS_LOG_LEVEL": "warning",
    }
    ready = directory / "ready.json"
    serve = subprocess.Popen([*_COMMAND, "serve", "--ready-file", str(ready)], env=environment, cwd=directory)
    try:
        _await(ready, serve)
        token = _furnish(environment, directory)
        url = Cluster(ClusterSettings(directory / "data")).admin_url
        postgres = int((directory / "data/pgdata/postmaster.pid").read_text().split()[0])
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SHOW fsync").fetchone() == ("on",)
            yield Gateway(port, token, _python(serve.pid), psutil.Process(postgres), db)
    finally:
        serve.terminate()
        serve.wait(60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _await(ready: Path, serve: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while not ready.exists():
        if serve.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(
                f"bench: the gateway did not start (exit code {serve.returncode}); it says why above"
            )
        time.sleep(0.05)


def speedsms(words: list[str], environment: dict[str, str], directory: Path) -> Any:
    """One command; its data."""
    done = subprocess.run(
        [*_COMMAND, *words, "--json"],
        env=environment,
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)["data"]


def _furnish(environment: dict[str, str], directory: Path) -> str:
    for words in (
        ["account", "create", ACCOUNT, "bench@example.com"],
        ["account", "topup", ACCOUNT, str(_BALANCE_VND), "--key", "bench"],
        ["account", "set", ACCOUNT, f"rate_limit={_RATE_LIMIT}"],
        ["price", "set", "sms", "250", "--type", "2"],
        ["channel", "add", "null", "sim", 'mode="null"'],  # quoted: a bare null is JSON's
        ["route", "add", "null"],
    ):
        speedsms(words, environment, directory)
    (settings,) = [
        c["settings"] for c in speedsms(["channel", "list"], environment, directory) if c["name"] == "null"
    ]
    assert settings == {"mode": "null"}, settings
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
