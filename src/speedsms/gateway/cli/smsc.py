"""`smsc`: a carrier for people who test their own SMPP client (channels §3.17)."""

import asyncio
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import uvloop
from cyclopts import Parameter
from cyclopts.validators import Number

from speedsms.cli.exits import CONFIGURATION, UNREACHABLE
from speedsms.cli.terminal import neutral, refuse, say, show
from speedsms.gateway.channels.smpp.smsc import Line, Script, Smsc
from speedsms.gateway.channels.smpp.smsc.script import load
from speedsms.gateway.channels.smpp.words import explain_octets
from speedsms.gateway.cli.terminal import Options

_LINES_PER_SECOND: Final = 50
_ARROWS: Final = {"in": "→", "out": "←"}


def smsc(
    *,
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535), help="0: any that is free.")] = 2775,
    host: Annotated[str, Parameter(help="Where to listen.")] = "127.0.0.1",
    script: Annotated[Path | None, Parameter(help="What it does, as TOML; SIGHUP reads it again.")] = None,
    journal: Annotated[Path | None, Parameter(help="Every PDU becomes a line of JSON in this file.")] = None,
    tls_cert: Annotated[Path | None, Parameter(help="Certificate and chain; with it only TLS.")] = None,
    tls_key: Annotated[Path | None, Parameter(help="Its key, unless it stands in the same file.")] = None,
    seed: Annotated[int | None, Parameter(help="Of the dice and the message ids; else drawn.")] = None,
    quiet: Annotated[bool, Parameter(negative=(), help="Print the summary alone.")] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", negative=(), help="Print the summary alone, as JSON for programs.")
    ] = False,
) -> None:
    """Play a carrier: an SMPP server that takes every message, or does what a script says. Ctrl-C ends it."""
    with ExitStack() as files:
        tellers: list[Callable[[Line], None]] = []
        try:
            played = load(script) if script else Script()
            tls = _tls(tls_cert, tls_key)
            if journal:
                tellers.append(_writer(journal, files))
        except (OSError, ValueError) as error:
            refuse(_said(error), "correct it, or leave the option out", CONFIGURATION)
        if not (quiet or as_json):
            tellers.append(Printer().line)
        # Drawn, because a carrier that comes again does not begin with the same message ids.
        seed = secrets.randbelow(1_000_000) if seed is None else seed
        carrier = Smsc(played, seed=seed, keep=0, tell=_all(tellers))
        uvloop.run(_serve(carrier, host, port, tls, script))
    figures = dict(carrier.counts) | {
        "statuses": dict(carrier.messages.statuses),
        "undelivered": carrier.undelivered,
        "top_rate": carrier.messages.top_rate,
    }
    show(Options(as_json=as_json), figures, lines=summary(carrier))


async def _serve(
    carrier: Smsc, host: str, port: int, tls: ssl.SSLContext | None, script: Path | None
) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, _again, carrier, script)
    try:
        listening = await carrier.start(port, host, tls)
    except OSError as error:
        refuse(f"{host}:{port}: {error.strerror or error}", "choose another --port or --host", UNREACHABLE)
    how = "TLS, " if tls else ""
    say(f"a carrier listens on {host}:{listening}, {how}seed {carrier.seed}; Ctrl-C ends it")
    await ended.wait()
    await carrier.stop()


def _again(carrier: Smsc, script: Path | None) -> None:
    """A script that is wrong changes nothing."""
    if not script:
        say("there is no --script to read again")
        return
    try:
        carrier.script = load(script)
    except (OSError, ValueError) as error:
        say(f"the old script stays: {_said(error)}")
    else:
        say(f"{script} is read again")


def _said(error: OSError | ValueError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _writer(path: Path, files: ExitStack) -> Callable[[Line], None]:
    """Unbuffered, so that nothing is missing after a kill; for its owner alone, for it holds texts."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    file = files.enter_context(os.fdopen(descriptor, "ab", buffering=0))

    def write(line: Line) -> None:
        file.write(line.json())

    return write


def _all(tellers: list[Callable[[Line], None]]) -> Callable[[Line], None]:
    def tell(line: Line) -> None:
        for each in tellers:
            each(line)

    return tell


class Printer:
    """One line for each PDU, but no more in a second than somebody could read."""

    def __init__(self) -> None:
        self._second = 0
        self._printed = 0

    def line(self, line: Line) -> None:
        second = int(line.at)
        if second != self._second:
            if self._printed > _LINES_PER_SECOND:
                sys.stdout.write(f"… and {self._printed - _LINES_PER_SECOND} lines more in that second\n")
            self._second, self._printed = second, 0
        self._printed += 1
        if self._printed <= _LINES_PER_SECOND:
            sys.stdout.write(neutral(plain(line)) + "\n")
            sys.stdout.flush()


def plain(line: Line) -> str:
    """Such as `14:03:07.120 connection 1 → submit_sm #7: …`."""
    clock = time.strftime("%H:%M:%S", time.localtime(line.at))
    head = f"{clock}.{int(line.at * 1000) % 1000:03d} connection {line.connection}"
    if line.way in _ARROWS:
        return f"{head} {_ARROWS[line.way]} {explain_octets(line.octets)}"
    return f"{head} {'opened' if line.way == 'open' else 'closed'}"


def summary(carrier: Smsc) -> Iterator[str]:
    """What happened, for the end."""
    counts, messages = carrier.counts, carrier.messages
    yield f"binds      {counts['binds']}, refused {counts['binds_refused']}"
    statuses = ", ".join(f"{name} {found}" for name, found in messages.statuses.most_common())
    yield f"submits    {counts['submits']}{f': {statuses}' if statuses else ''}"
    for kind in ("receipts", "incoming"):
        sent, repeated = counts[f"{kind}_sent"], counts[f"{kind}_repeated"]
        taken, refused = counts[f"{kind}_acknowledged"], counts[f"{kind}_refused"]
        yield f"{kind:<10} {sent} sent, {taken} acknowledged, {refused} refused, {repeated} repeated"
    yield f"waiting    {carrier.undelivered} found no bind"
    yield f"top rate   {messages.top_rate} submits in one second"
