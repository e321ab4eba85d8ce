"""The simulator: a carrier in this process, for the demo, test tokens, tests and load (channels §7).

What happens to a message is a pure function of its number, the scripts, the seed and the attempt (SI-1). What
the simulated carrier will say later is stored with its due time before it takes a message, so that a killed
process forgets no receipt.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from speedsms.contract.simulation import MAGIC, SCRIPTS, Script
from speedsms.gateway import failpoint
from speedsms.gateway.channels.base import (
    Accepted,
    Capacity,
    Health,
    Incoming,
    Outcome,
    Outgoing,
    Reason,
    Refused,
    Report,
    Sink,
    Surroundings,
    Traits,
    Unknown,
    settings_from,
)
from speedsms.gateway.rules.pace import Pace
from speedsms.numbers import magic

_Amount: TypeAlias = Annotated[float, Meta(ge=0)]
_Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class Settings(msgspec.Struct, frozen=True):
    """One simulated carrier. mode `null` takes everything at once and says nothing, for benchmarks.

    latency_ms: (least, most) of its answer; throttle, peer_error, unknown: shares of chaos.
    """

    mode: Literal["sim", "null"] = "sim"
    outcome: str = "delivered"
    latency_ms: tuple[_Amount, _Amount] = (0.0, 0.0)
    receipt_s: _Amount | None = None
    rate: _Amount = 0.0
    window: Annotated[int, Meta(ge=1)] = 1000
    seed: int = 1
    throttle: _Share = 0.0
    peer_error: _Share = 0.0
    unknown: _Share = 0.0
    idempotent: bool = True
    scripts: Mapping[str, str] = {}


def settings_of(raw: Mapping[str, Any]) -> Settings:
    """Settings from their stored form. Raises ValueError with the path of the bad key (CH-11)."""
    settings = settings_from(raw, Settings, "a sim channel")
    named = {"outcome": settings.outcome} | {
        f"scripts.{phone}": name for phone, name in settings.scripts.items()
    }
    for path, name in named.items():
        if name not in SCRIPTS:
            raise ValueError(f"{path}: {name!r} is none of {', '.join(SCRIPTS)}")
    return settings


def script_for(out: Outgoing, settings: Settings, asked: Callable[[str], str | None]) -> Script:
    """The script of an attempt: by magic number, by number, by chaos, else the channel's outcome."""
    number = magic(out.to)
    if number is not None:
        return SCRIPTS[MAGIC.get(number, "delivered")]
    if name := asked(out.to) or settings.scripts.get(out.to):
        return SCRIPTS[name]
    script = SCRIPTS[settings.outcome]
    dice = 1.0  # a seed is hashed: without chaos it would cost more than the rest of the attempt
    if settings.throttle or settings.peer_error or settings.unknown:
        dice = random.Random(f"{settings.seed}/{out.to}/{out.message}/{out.attempt}").random()  # noqa: S311 - SI-1
    for share, refuse in ((settings.throttle, "throttled"), (settings.peer_error, "peer_error")):
        if dice < share:
            return replace(script, refuse=refuse, refused_attempts=1_000_000, retry_after_s=0.2)
        dice -= share
    if dice < settings.unknown:
        return replace(script, unknown=True)
    if settings.receipt_s is not None and script.receipts:
        return replace(script, receipts=((settings.receipt_s, script.receipts[-1][1]),))
    return script


_TAKEN: Final = Accepted()


class Sim:
    """The in-process channel."""

    kind = "sim"

    def __init__(self, name: str, raw: Mapping[str, Any], around: Surroundings) -> None:
        self.name = name
        self._settings = settings_of(raw)
        null = self._settings.mode == "null"
        self.traits = Traits(
            receipts="none" if null else "handset",
            idempotent=self._settings.idempotent,
            no_receipt_status=0 if null else 98,
        )
        self.counts: Counter[str] = Counter()
        self._null = null
        self._around = around
        self._pace = Pace(self._settings.rate)
        self._open: set[asyncio.Task[Outcome]] = set()
        self._sink: Sink | None = None
        self._state = "starting"

    async def start(self, sink: Sink) -> None:
        self._sink = sink
        self._state = "up"

    def hold(self, links: Collection[int]) -> None:
        """It has no links."""

    def capacity(self, now: float) -> Capacity:
        free = min(self._settings.window - len(self._open), self._pace.free(now))
        return Capacity(max(0, free), 0.0 if free > 0 else self._pace.wait_s(now))

    def cuts(self, _text: str, _encoding: str, parts: int, /) -> int:
        return parts

    def matched(self, reference: str, key: str) -> None:
        """It has one form of reference."""

    def reported(self, matched: int, strays: int) -> None:
        """It knows what it says."""

    def figures(self) -> dict[str, object]:
        return {}

    def health(self) -> Health:
        return Health(self._state)

    async def drain(self, within_s: float) -> None:
        self._state = "draining"
        if self._open:
            await asyncio.wait(self._open, timeout=within_s)

    async def stop(self) -> None:
        self._state = "stopped"

    def submit(self, out: Outgoing) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        if self._null:
            taken: asyncio.Future[Outcome] = loop.create_future()
            taken.set_result(_TAKEN)
            return taken
        self._pace.take(len(out.parts), loop.time())
        attempt = loop.create_task(self._attempt(out))
        self._open.add(attempt)
        attempt.add_done_callback(self._open.discard)
        return attempt

    async def _attempt(self, out: Outgoing) -> Outcome:
        try:
            return await self._play(out, script_for(out, self._settings, self._around.asked))
        except Exception as error:  # noqa: BLE001 - the wall of the channel: a broken sink leaves it unknown
            return Unknown("raised", repr(error))

    async def _play(self, out: Outgoing, script: Script) -> Outcome:
        least, most = self._settings.latency_ms
        dice = random.Random(f"{self._settings.seed}/{out.message}") if least or most else None  # noqa: S311 - SI-1
        latency_s = dice.uniform(least, most) / 1000 if dice else 0.0
        if latency_s + script.delay_s > 0:
            await asyncio.sleep(latency_s + script.delay_s)
        if script.refuse and out.attempt <= script.refused_attempts:
            return Refused(Reason(script.refuse), "scripted", script.retry_after_s)
        references = tuple(f"{out.message:x}-{out.attempt}-{n}" for n in range(1, len(out.parts) + 1))
        await self._speak(out, script, references)
        failpoint.hit("S9")
        if script.unknown:
            return Unknown("timeout", "scripted")
        return Accepted(references)

    async def _speak(self, out: Outgoing, script: Script, references: tuple[str, ...]) -> None:
        assert self._sink  # noqa: S101 - what is not started gets no work
        now = self._around.now()
        for delay_s, status in script.receipts * script.repeats:
            for part, reference in enumerate(references, 1):
                await self._sink.report(
                    Report(
                        # A peer whose answer is lost has told no reference: it names the attempt instead.
                        reference="" if script.unknown else reference,
                        message=out.message if script.unknown else None,
                        attempt=out.attempt,
                        part=part,
                        parts=len(references),
                        status=status,
                        received_at=now,
                        cause="simulated",
                        due=None if script.early else now + timedelta(seconds=delay_s),
                    )
                )
        if script.reply:
            await self._sink.incoming(
                Incoming(
                    sender=out.to,
                    recipient=out.sender,
                    text=script.reply,
                    received_at=now,
                    dedup_key=f"reply-{out.message:x}-{out.attempt}",
                    reply_to=out.message,
                )
            )
