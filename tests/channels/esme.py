"""A small client for tests of a carrier: the session over TCP, every event kept, no opinions."""

import asyncio
from contextlib import asynccontextmanager

from speedsms.gateway.channels.smpp.pdu import (
    Address,
    Bind,
    Command,
    DataSm,
    DataSmResp,
    DeliverSmResp,
    SubmitSm,
    Tag,
)
from speedsms.gateway.channels.smpp.session import Answered, Asked, Bound, Role, Session, Timers
from speedsms.gateway.channels.smpp.smsc import Script, Smsc


class Esme(asyncio.Protocol):
    """events: of the session; frames: what the carrier asked; answers: own submits by key, all of them.

    answer_status: None does not answer what the carrier asks.
    """

    def __init__(self, *, answer_status=0, timers=None):
        self.session = Session(Role.ESME, timers or Timers(response_s=20.0))
        self.events, self.frames, self.answers, self.octets = [], [], [], b""
        self.answer_status = answer_status
        self.lost = None
        self._stirred = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.lost = exc or "closed"
        self._stirred.set()

    def data_received(self, data):
        self.octets += data
        for event in self.session.receive(data, self.now()):
            self.events.append(event)
            if isinstance(event, Answered):
                self.answers.append(event)
            elif isinstance(event, Asked):
                self.frames.append(event.frame)
                self._answer(event)
        self.flush()
        self._stirred.set()

    def _answer(self, asked):
        if self.answer_status is not None:
            data = isinstance(asked.frame.pdu, DataSm)
            command = Command.DATA_SM_RESP if data else Command.DELIVER_SM_RESP
            pdu = DataSmResp() if data else DeliverSmResp()
            self.session.answer(
                asked.sequence, None if self.answer_status else pdu, command, self.answer_status
            )

    def flush(self):
        if octets := self.session.take():
            self.transport.write(octets)

    @staticmethod
    def now():
        return asyncio.get_running_loop().time()

    async def until(self, condition, within_s=20.0):
        async with asyncio.timeout(within_s):
            while not condition():
                self._stirred.clear()
                await self._stirred.wait()

    async def seen(self, kind):
        """The first event of a kind."""
        await self.until(lambda: any(isinstance(event, kind) for event in self.events))
        return next(event for event in self.events if isinstance(event, kind))

    async def answered(self, count=1):
        await self.until(lambda: len(self.answers) >= count)
        return self.answers

    async def asked(self, count=1):
        """The frames of what the carrier asked."""
        await self.until(lambda: len(self.frames) >= count)
        return self.frames

    def submit(self, to="84912345678", text=b"Ma OTP: 123456", registered=1, key=None, **fields):
        pdu = SubmitSm(
            source=Address(5, 0, "SHOP"),
            destination=Address(1, 1, to),
            registered_delivery=registered,
            short_message=text,
            **fields,
        )
        return self.request(pdu, to if key is None else key)

    def request(self, pdu, key="asked"):
        sequence = self.session.request(pdu, key, self.now())
        self.flush()
        return sequence

    def bind(self, system_id="shop", password="secret", mode="transceiver"):
        self.session.bind(Bind(mode, system_id, password), self.now())
        self.flush()


@asynccontextmanager
async def carriers():
    """Gives a function that starts a carrier with a script; its port is `port`."""
    started = []

    async def start(script=Script(), **options):  # noqa: B008 - frozen
        smsc = Smsc(script, **options)
        smsc.port = await smsc.start()
        started.append(smsc)
        return smsc

    yield start
    for smsc in started:
        await smsc.stop()


async def connected(smsc, **options):
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: Esme(**options), "127.0.0.1", smsc.port))[1]


async def bound(smsc, mode="transceiver", system_id="shop", **options):
    esme = await connected(smsc, **options)
    esme.bind(mode=mode, system_id=system_id)
    await esme.seen(Bound)
    return esme


def text_of(frame):
    return (frame.pdu.tlvs.get(Tag.MESSAGE_PAYLOAD) or frame.pdu.short_message).decode("latin-1")


def id_of(frame):
    return text_of(frame).partition("id:")[2].partition(" ")[0]
