"""J1, what a client saw, and J3, what a webhook receiver saw (invariants §3): kept apart from the product."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp

TIMEOUT_S = 10
MOST_OPEN = 400  # calls at the same time; beyond, an arrival is left out
FRAMEWORK_500 = 500


@dataclass
class Sent:
    """One request, by its unique text. replies: (HTTP status, body) of each try; None: cut or too late."""

    content: str
    phones: list[str]
    key: str | None
    replies: list[tuple[int, bytes] | None] = field(default_factory=list)

    @property
    def acked(self):
        """The bodies of the successes."""
        return [reply[1] for reply in self.replies if reply and b'"status":"success"' in reply[1]]

    @property
    def unknown(self):
        """Whether it may exist unacknowledged: a cut, a timeout, HTTP 500, a key in flight."""
        return any(reply is None or reply[0] in (FRAMEWORK_500, 409) for reply in self.replies)

    @property
    def tran_id(self):
        return json.loads(self.acked[0])["data"]["tranId"]


class Client:
    """J1. Sends to one gateway and writes down every request and reply."""

    def __init__(self, base, token, dice):
        self.sent: list[Sent] = []
        self.left_out = 0
        self._url = f"{base}/index.php/sms/send"
        self._auth = {"Authorization": aiohttp.encode_basic_auth(token, "x")}
        self._dice = dice

    @asynccontextmanager
    async def open(self):
        connector = aiohttp.TCPConnector(limit=MOST_OPEN)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._auth
        ) as self._session:
            yield self

    def make(self, phones=1, *, keyed=False):
        n = len(self.sent)
        first = self._dice.randrange(900_000)
        numbers = [f"0912{(first + i) % 1_000_000:06d}" for i in range(phones)]
        sent = Sent(f"fault {n}", numbers, f"key-{n}" if keyed else None)
        self.sent.append(sent)
        return sent

    async def post(self, sent):
        """One try of a request, journaled."""
        headers = {"Idempotency-Key": sent.key} if sent.key else {}
        # One recipient of the shared OTP name goes the short lane: an unknown attempt is repeated after 5 s.
        otp = {"sms_type": 4, "sender": "Verify"} if len(sent.phones) == 1 else {"sms_type": 2}
        reply = None
        with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
            async with self._session.post(
                self._url, json={"to": sent.phones, "content": sent.content} | otp, headers=headers
            ) as answer:
                reply = (answer.status, await answer.read())
        sent.replies.append(reply)
        return sent

    async def insist(self, sent):
        """Repeat a keyed request until it succeeds; the byte-equality of the successes is the checker's."""
        while not sent.acked or len(sent.acked) < 2:
            await self.post(sent)
            await asyncio.sleep(0.05)

    async def load(self, rate, stop):
        """`rate` requests a second, come what may: 85 % to one recipient, 10 % to five, 5 % keyed."""
        loop = asyncio.get_running_loop()
        began, count, waiting = loop.time(), 0, set()
        async with asyncio.TaskGroup() as calls:
            while not stop.is_set():
                while count < (loop.time() - began) * rate:
                    count += 1
                    if len(waiting) >= MOST_OPEN:
                        self.left_out += 1
                        continue
                    waiting.add(call := calls.create_task(self.post(self._any())))
                    call.add_done_callback(waiting.discard)
                await asyncio.sleep(0.005)

    def _any(self):
        dice = self._dice.random()
        return self.make() if dice < 0.85 else self.make(5) if dice < 0.95 else self.make(3, keyed=True)


class Sink:
    """J3. Answers 200 to every POST and keeps raw bodies by event id."""

    def __init__(self):
        self.bodies = defaultdict(Counter)  # webhook-id → body → times
        self.told = set()  # (tranId, phone, status)
        self.trans = set()

    @asynccontextmanager
    async def open(self):
        connections = set()

        async def serve(reader, writer):
            connections.add(asyncio.current_task())
            try:
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    while True:
                        await self._one(reader, writer)
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield self
        finally:
            server.close()
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def _one(self, reader, writer):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines) if name}
        body = await reader.readexactly(int(headers["content-length"]))
        self.bodies[headers["webhook-id"]][body] += 1
        report = json.loads(body)
        self.told.add((report["tranId"], report["phone"], report["status"]))
        self.trans.add(report["tranId"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def dice_of(seed):
    return random.Random(seed)
