"""`channel test`: one channel built beside the gateway, and its exchange with the carrier in plain words."""

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from cyclopts import Parameter

from speedsms.cli.exits import CONFIGURATION, REFUSED, UNKNOWN, UNREACHABLE
from speedsms.cli.terminal import refuse, show
from speedsms.contract.senders import Lane
from speedsms.gateway import config, log
from speedsms.gateway.channels import kinds
from speedsms.gateway.channels.base import (
    Accepted,
    Channel,
    Health,
    Outcome,
    Outgoing,
    Reason,
    Refused,
    Surroundings,
    Unknown,
)
from speedsms.gateway.channels.smpp.pdu import Status
from speedsms.gateway.cli.exchange import Ear, Exchange
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command
from speedsms.gateway.rules.state import TAKING
from speedsms.gateway.store import routing
from speedsms.gateway.store.admin import AdminFailed
from speedsms.gateway.store.routing import ChannelRow
from speedsms.numbers import ANY_COUNTRY, parse
from speedsms.text import segments, split

_BIND_S: Final = 25.0
_OUTCOME_S: Final = 70.0
_RECEIPT_S: Final = 30.0
_ALREADY: Final = (
    "it lets this system_id bind only so often: close the other connection, or ask for more binds"
)
# What a carrier means when it refuses a bind (SMPP 3.4 §5.1.3), and what an operator can do about it.
_BIND_FIXES: Final[Mapping[int, str]] = {
    Status.RBINDFAIL: "ask the carrier whether it knows our address, and compare system_id and password",
    Status.RINVPASWD: "compare password with the contract; beyond 8 characters set long_password = true",
    Status.RINVSYSID: "compare system_id with the contract, capital letters too",
    Status.RINVSYSTYP: "compare system_type with the contract; it is often empty",
    Status.RALYBND: _ALREADY,
    Status.RTHROTTLED: "it was asked too often: wait ten minutes",
    Status.RSYSERR: "the carrier has trouble: try again later",
}
_REASON_FIXES: Final[Mapping[Reason, str]] = {
    Reason.THROTTLED: "it takes fewer parts a second: lower rate",
    Reason.QUEUE_FULL: "its queue for this number is full: try again later",
    Reason.NOT_WRITTEN: "the link was lost before the message left: try again",
    Reason.AUTH: "ask the carrier: it refuses our account",
    Reason.NO_BALANCE: "top up the account at the carrier",
    Reason.PEER_ERROR: "the carrier has trouble, or status_map should say what its code means: ask it",
    Reason.SENDER_REFUSED: "name a sender that is registered there (--sender), or look at source_ton_npi",
    Reason.CONTENT_REFUSED: "the carrier wants registered texts: send one with --text",
    Reason.UNSUPPORTED: "look at alphabet, concat and dcs_ucs2",
    Reason.TOO_LONG: "send a shorter text, or look at concat",
    Reason.NUMBER_REFUSED: "try another number, or look at dest_format and dest_ton_npi",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the trial ended: exit code, what happened, and what to do about it (empty if all is well)."""

    code: int
    said: str
    fix: str = ""


@command
async def trial(
    name: Annotated[str, Parameter(help="The channel's name.")],
    *,
    to: Annotated[str, Parameter(help="Also send one real message to this number.")] = "",
    text: Annotated[str, Parameter(help="Its text.")] = "speedsms: this channel works",
    sender: Annotated[str, Parameter(help="Its sender, as registered with the carrier.")] = "",
    options: Options = PLAIN,
) -> None:
    """The channel is built here, beside the gateway, and neither stored nor charged; one bind is used."""
    log.configure("critical", "auto")  # the exchange tells all that the channel would log
    async with changing(options) as connection:
        row = await routing.channel(connection, name)
        held = await routing.worker_runs(connection) and row.enabled and row.health.get("state") == "up"
    out = _outgoing(to, text, sender) if to else None
    exchange = Exchange(quiet=options.as_json)
    channel = _built(row, exchange)
    ear = Ear(exchange, alone=not channel.traits.links)
    await channel.start(ear)
    channel.hold([0] if channel.traits.links else [])
    try:
        health = await _settled(channel, exchange, len(row.settings.get("hosts", [])))
        verdict = _bind_verdict(health, exchange, held=held)
        if out and not verdict.code:
            verdict = await _sent(channel, ear, out)
    finally:
        ear.know(frozenset())
        with suppress(TimeoutError):
            await channel.drain(5.0)
        await channel.stop()
    show(options, {"exchange": exchange.lines, "verdict": verdict}, lines=_lines(name, verdict))
    sys.exit(verdict.code)


def _built(row: ChannelRow, exchange: Exchange) -> Channel:
    around = Surroundings(
        now=lambda: datetime.now(UTC),
        random=random.random,
        owner=lambda: 0,
        asked=lambda _: None,
        secret=config.secret,
    )
    try:
        channel = kinds.build(row.kind, row.name, row.settings, around)
    except ValueError as error:
        refuse(f"channel {row.name}: {error}", "correct that setting", CONFIGURATION)
        raise
    if hasattr(channel, "trace"):
        channel.trace = exchange.trace
    return channel


def _outgoing(to: str, text: str, sender: str) -> Outgoing:
    number = parse(to, (ANY_COUNTRY,))
    if number is None:
        raise AdminFailed(f"{to!r} is no number that can be written to", "write it as 0912345678")
    cut = segments(text)
    now = datetime.now(UTC)
    return Outgoing(
        message=time.time_ns() >> 10,
        attempt=1,
        to=number.e164,
        sender=sender,
        lane=Lane.TRANSACTIONAL,
        expires_at=now + timedelta(minutes=5),
        parts=tuple(split(cut.text, cut.encoding)),
        encoding=cut.encoding,
        concat_ref=random.randrange(256),  # noqa: S311 - it only has to differ from the last one
    )


async def _settled(channel: Channel, exchange: Exchange, hosts: int) -> Health:
    """Its health once a bind succeeded, or was refused, or each host was tried."""
    began = time.monotonic()
    while time.monotonic() - began < _BIND_S:
        health = channel.health()
        if health.state in (*TAKING, "blocked") or exchange.bind_status():
            break
        if health.state == "down" and channel.counts["reconnects"] >= hosts:
            break
        await asyncio.sleep(0.05)
    return channel.health()


def _bind_verdict(health: Health, exchange: Exchange, *, held: bool) -> Verdict:
    status = exchange.bind_status()
    if health.state in TAKING:
        return Verdict(0, "the carrier accepts us" if status == 0 else "the channel is up")
    if status:
        fix = _BIND_FIXES.get(status, "ask the carrier what this status means there")
        if held and status in (Status.RALYBND, Status.RBINDFAIL):
            fix = "the worker holds a bind, perhaps the only one: disable the channel, test, enable it"
        return Verdict(REFUSED, f"the carrier refuses the bind: {health.cause or hex(status)}", fix)
    cause = health.cause or "no answer"
    if exchange.bind_sent():
        fix = "is this the port for SMPP, and does it want tls = true, or none?"
        return Verdict(UNREACHABLE, f"the carrier does not answer the bind: {cause}", fix)
    fix = "compare hosts and tls with the contract, look at the firewall, ask whether our address is listed"
    return Verdict(UNREACHABLE, f"no connection to the carrier: {cause}", fix)


async def _sent(channel: Channel, ear: Ear, out: Outgoing) -> Verdict:
    try:
        async with asyncio.timeout(_OUTCOME_S):
            outcome = await channel.submit(out)
    except TimeoutError:
        outcome = Unknown("timeout")
    verdict = told(outcome)
    if not isinstance(outcome, Accepted):
        return verdict
    ear.know(frozenset(key for key in (*outcome.references, *outcome.keys) if key))
    if channel.traits.receipts != "handset":
        return Verdict(0, f"{verdict.said}; this channel gives no receipts from handsets")
    try:
        async with asyncio.timeout(_RECEIPT_S):
            return await _receipt(ear, verdict)
    except TimeoutError:
        fix = "is the phone on? else ask the carrier whether it sends receipts to this system_id"
        return Verdict(UNKNOWN, f"{verdict.said}, and no receipt came in {_RECEIPT_S:.0f} s", fix)


async def _receipt(ear: Ear, verdict: Verdict) -> Verdict:
    """The first receipt that says how it ended."""
    while True:
        report = await ear.reports.get()
        if report.status is not None and report.status < 32:
            return Verdict(0, f"{verdict.said}, and the receipt says: delivered")
        if report.status is not None and report.status >= 64:
            said = f"{verdict.said}, but the receipt says: status {report.status} ({report.cause})"
            return Verdict(REFUSED, said, "docs/how-to/connect-a-carrier.md tells what a status means")


def told(outcome: Outcome) -> Verdict:
    """An outcome in plain words."""
    match outcome:
        case Accepted(references=references):
            return Verdict(
                0, f"the carrier took the message as {', '.join(references) or 'nothing it names'}"
            )
        case Refused(reason=reason, detail=detail):
            fix = _REASON_FIXES.get(reason, "ask the carrier what this code means there")
            return Verdict(
                REFUSED, f"the carrier refused the message: {reason} ({detail or 'no detail'})", fix
            )
        case Unknown(stage=stage, detail=detail):
            fix = "do not send it again blindly: the phone may still get it"
            return Verdict(
                UNKNOWN, f"nobody knows what became of the message: {stage} {detail}".rstrip(), fix
            )


def _lines(name: str, verdict: Verdict) -> Iterator[str]:
    yield f"channel {name}: {verdict.said}"
    if verdict.fix:
        yield f"  what to do: {verdict.fix}"
