"""A service of one's own on loopback: real sockets that answer, break and hang as a test has written down."""

import asyncio
import json
import signal
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest

from speedsms import AsyncSpeedSMS, SpeedSMS

# A shell that starts the tests in the background ignores SIGINT for them; their children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOKEN = "ss_test_4canary4Canary4canary4Canary4"


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def form(self):
        return parse_qs(self.body.decode(), keep_blank_values=True, strict_parsing=True)

    @property
    def key(self):
        return self.headers.get("idempotency-key")


def success(data=None, status=200, **headers):
    """A reply in the documented form; by default that of an accepted send."""
    data = data or {"tranId": 7, "totalSMS": 1, "totalPrice": 250, "invalidPhone": []}
    body = json.dumps({"status": "success", "code": "00", "data": data}).encode()
    return answer(status, body, **headers)


def refusal(code, message="refused", status=200, invalid=(), **headers):
    """A business refusal."""
    body = {"status": "error", "code": code, "message": message, "invalidPhone": list(invalid)}
    return answer(status, json.dumps(body).encode(), **headers)


def answer(status, body=b"", **headers):
    """Any reply; `X_Name` stands for the header X-Name."""
    head = [f"HTTP/1.1 {status} Reply", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    head += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([*head, "", ""]).encode() + body


class Break:
    """What a connection does instead of a reply."""

    RESET_BEFORE = "reset before the request is read"
    RESET_AFTER = "reset after the request is read"
    CLOSE = "closed without a reply"
    HANG = "no reply, connection open"


class Service:
    """Answers each request with the next thing of the script, then with the default."""

    def __init__(self):
        self.script = deque()
        self.default = success(X_Speedsms_Contract="1")
        self.seen = []
        self.connections = 0
        self.arrived = threading.Semaphore(0)
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._context = None
        self._open = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def encrypt(self, context):
        """Speak TLS from now on."""
        self._context = context

    def close(self):
        self.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in [*self._open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        with suppress(OSError):
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._converse(connection)
        self._open.discard(connection)

    def _converse(self, connection):
        with connection, connection.makefile("rb") as lines:
            if self.script and self.script[0] == Break.RESET_BEFORE:
                self.script.popleft()
                _reset(connection)
                return
            while (request := _request(lines)) and self._answered(connection, request):
                pass

    def _answered(self, connection, request):
        with self._lock:
            self.seen.append(request)
            step = self.script.popleft() if self.script else self.default
        self.arrived.release()
        if callable(step):
            step = step(request)
        if step == Break.RESET_AFTER:
            _reset(connection)
        elif step == Break.HANG:
            self.released.wait(30)
        elif step == Break.CLOSE:
            pass
        else:
            pieces = step if isinstance(step, list) else [step]
            for piece in pieces:
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    self.released.wait(piece)
            return b"Connection: close" not in pieces[0]
        return False


def _reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _request(lines):
    first = lines.readline().decode().split()
    if not first:
        return None
    headers = {}
    while line := lines.readline().strip():
        name, _, text = line.decode().partition(":")
        headers[name.lower()] = text.strip()
    body = lines.read(int(headers.get("content-length", 0)))
    return Seen(first[0], first[1], headers, body)


@dataclass
class Kit:
    """What tests of this folder write scripts with."""

    service: Service
    token: str = TOKEN
    break_: type = Break
    success: object = staticmethod(success)
    refusal: object = staticmethod(refusal)
    answer: object = staticmethod(answer)
    ours: dict = field(default_factory=lambda: {"X_Speedsms_Contract": "1"})

    def sync(self, **options):
        return SpeedSMS(TOKEN, self.service.url, **options)

    def asynchronous(self, **options):
        return AsyncSpeedSMS(TOKEN, self.service.url, **options)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    """No setting of the machine reaches a test."""
    for name in ("TOKEN", "BASE_URL", "PROFILE"):
        monkeypatch.delenv(f"SPEEDSMS_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture
def kit(service):
    return Kit(service)


@pytest.fixture(params=["sync", "async"])
def ask(request, kit):
    """One call of a fresh client, of both kinds: `ask("send", "0912345678", "hi", retries=0)`."""

    def sync(method, *args, client=None, **options):
        with kit.sync(**(client or {})) as sms:
            return getattr(sms, method)(*args, **options)

    async def asynchronous(method, *args, client=None, **options):
        async with kit.asynchronous(**(client or {})) as sms:
            return await getattr(sms, method)(*args, **options)

    return sync if request.param == "sync" else lambda *a, **o: asyncio.run(asynchronous(*a, **o))
