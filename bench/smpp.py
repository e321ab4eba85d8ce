"""Rounds through a carrier, ours and Kannel by turns, counted where messages arrive: at SMSC and sink."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import rival
from carried import FAR_MS, OTP_RATE, Carried
from carrier import Sink, Smsc, sink, smsc
from gateway import ACCOUNT, CONTENT, Gateway, account_words, closed, gateway
from machine import Load, free_port, machine_cpu_s, open_loop, quiet

WINDOW, UNRECORDED = 500, 2000  # per bind
FAR_WINDOW = 100
BINDS = (1, 4)
_MANY = 100
_SILENT = "silent"  # the account without webhooks
_SETTLE_S = 0.7  # longer than receipts take, so that what nobody waits for shows too
_SILENCE_S = 8.0  # without progress nothing more is expected


@dataclass(frozen=True, slots=True)
class Ends:
    """Where messages and their webhooks arrive. receipts: the webhooks count."""

    smsc: Smsc
    sink: Sink
    receipts: bool

    def arrived(self) -> tuple[int, float]:
        """(how many have come, when the last one did)."""
        stats = self.sink.stats() if self.receipts else self.smsc.stats()
        return int(stats["reqs" if self.receipts else "submits"]), stats["last_us"] / 1e6

    def settle(self, accepted: int) -> None:
        """Wait until all that is expected has arrived and nothing moves, or nothing moves for long."""
        seen, moved = (-1, -1), time.monotonic()
        while True:
            submits, arrived = self.smsc.stats()["submits"], self.arrived()[0]
            if seen != (submits, arrived):
                seen, moved = (submits, arrived), time.monotonic()
            complete = arrived >= max(accepted, submits)
            if time.monotonic() - moved > (_SETTLE_S if complete else _SILENCE_S):
                return
            time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class System:
    """One of the two that are compared. spent: CPU by group of processes, in seconds."""

    name: str
    settings: str
    spent: Callable[[], dict[str, float]]


def measure(kind: str, system: System, ends: Ends, load: Callable[[], Load], recipients: int = 1) -> Carried:
    """One load until all of it has arrived."""
    rested = quiet()
    ends.smsc.reset()
    ends.sink.reset()
    before, machine, began, started = system.spent(), machine_cpu_s(), time.time(), time.monotonic()
    seen = load()
    accepted = seen.answered * recipients
    ends.settle(accepted)
    spent_s, took_s = machine_cpu_s() - machine, time.monotonic() - started
    used = {group: s - before[group] for group, s in system.spent().items()}
    stats, (arrived, last) = ends.smsc.stats(), ends.arrived()
    instruments_s = seen.cpu_s + stats["cpu_s"] + ends.sink.stats()["cpu_s"]
    return Carried(
        kind=kind,
        system=system.name,
        settings=system.settings,
        rate_s=arrived / max(last - began, 0.001),
        steady_s=stats["dlr_med_s" if ends.receipts else "submit_med_s"],
        accepted=accepted,
        arrived=arrived,
        missing=max(accepted, stats["submits"]) - arrived,
        bad=seen.bad,
        cpu_ms={group: 1000 * s / max(arrived, 1) for group, s in used.items()},
        p50_ms=stats["e2e_p50_ms"],
        p99_ms=stats["e2e_p99_ms"],
        others_cores=(spent_s - sum(used.values()) - instruments_s) / took_s,
        quiet=rested,
    )


class Ours:
    """The gateway with one channel, `carrier`, which is set anew when a load needs it otherwise."""

    def __init__(self, gate: Gateway, receiver: Sink, directory: Path) -> None:
        self.gate = gate
        self._silent = replace(gate, token=gate.speedsms("token", "create", _SILENT)["token"])
        self._sink = receiver
        self._directory = directory
        self._set: tuple[str, ...] = ()

    def _channel(self, host: Smsc | None, binds: int, *, receipts: bool, window: int = WINDOW) -> System:
        """Bound with these settings; host None: no carrier answers."""
        port = host.port if host else free_port()
        asked = "final" if receipts else "none"
        settings = (f'hosts=["127.0.0.1:{port}"]', f"binds={binds}", f"receipts={asked}", f"window={window}")
        if settings != self._set:
            since = host.stats()["binds"] if host else 0
            self.gate.speedsms("channel", "set", "carrier", *settings)
            self._set = settings
            if host:
                host.bound(binds, since)
        return System("speedsms", _said(binds, window), self.gate.cpu_s)

    def closed(
        self,
        kind: str,
        host: Smsc,
        binds: int,
        seconds: int,
        *,
        recipients: int = 1,
        receipts: bool = True,
        window: int = WINDOW,
    ) -> Carried:
        """As fast as replies come."""
        system = self._channel(host, binds, receipts=receipts, window=window)
        gate = self.gate if receipts else self._silent
        load = partial(closed, gate.url, seconds, gate.credentials, recipients)
        return measure(kind, system, Ends(host, self._sink, receipts), load, recipients)

    def half(self, host: Smsc, binds: int, seconds: int, rate: float) -> Carried:
        """At a fixed rate, each text with the time it left."""
        system = self._channel(host, binds, receipts=True)
        template = self.gate.template(self._directory, stamped=True)
        load = partial(open_loop, self.gate.port, rate, seconds, template)
        return measure("half", system, Ends(host, self._sink, receipts=True), load)

    def otp(self, host: Smsc, binds: int, seconds: int, backlog: int) -> Carried:
        """One-time passwords while a backlog goes out, which gathered when no carrier answered."""
        self._channel(None, binds, receipts=True)
        while self._waiting() < backlog:
            closed(self.gate.url, 1, self.gate.credentials, _MANY)
        template = self.gate.template(self._directory, stamped=True, otp=True)
        left = 0

        def load() -> Load:
            nonlocal left
            self._channel(host, binds, receipts=True)
            seen = open_loop(self.gate.port, OTP_RATE, seconds, template)
            left = self._waiting()
            return seen

        system = System("speedsms", _said(binds), self.gate.cpu_s)
        figures = measure("otp", system, Ends(host, self._sink, receipts=True), load)
        figures.backlog = left
        return figures

    def _waiting(self) -> int:
        return int(self.gate.one("SELECT count(*) FROM ready")[0])


def _said(binds: int, window: int = WINDOW) -> str:
    return f"{binds} bind{'s' * (binds > 1)}, window {window}, unrecorded {UNRECORDED}"


@dataclass(frozen=True, slots=True)
class Theirs:
    """Kannel with the number of binds that a short try found best, by kind of load."""

    host: Smsc
    sink: Sink
    directory: Path
    binds: dict[str, int] = field(default_factory=dict)

    def closed(self, kind: str, seconds: int, binds: int) -> Carried:
        """Started for this load, whose first second is not counted."""
        receipts = kind == "receipts"
        with rival.kannel(self.directory, self.host, binds) as kannel:
            kannel.load(1, CONTENT, None)
            said = f"{binds} bind{'s' * (binds > 1)}, window {rival.WINDOW}, file store, not synced"
            load = partial(kannel.load, seconds, CONTENT, self.sink if receipts else None)
            system = System("Kannel", said, kannel.cpu_s)
            return measure(kind, system, Ends(self.host, self.sink, receipts), load)

    def best(self, kind: str, seconds: int) -> Carried | None:
        """With the best number of binds, tried first if it is not known; None if there is no Kannel."""
        if not rival.version():
            return None
        if kind not in self.binds:
            tries = {binds: self.closed(kind, 2, binds).rate_s for binds in rival.BINDS}
            self.binds[kind] = max(tries, key=tries.__getitem__)
            rates = ", ".join(f"{binds}: {rate:,.0f}/s" for binds, rate in tries.items())
            print(f"Kannel, {kind}, by binds: {rates}; {self.binds[kind]} is kept", flush=True)
        return self.closed(kind, seconds, self.binds[kind])


def rounds(ours: Ours, theirs: Theirs, far: Smsc, count: int, seconds: int) -> Iterator[Carried]:
    """All loads but the backlog, `count` times, ours and Kannel's by turns."""
    near = theirs.host
    ours.closed("receipts", near, 1, 1)  # caches, plans and pools are warm in production too
    for _ in range(count):
        one = ours.closed("receipts", near, 1, seconds)
        yield one
        yield ours.half(near, 1, seconds, one.rate_s / 2)
        yield from filter(None, [theirs.best("receipts", seconds)])
        yield ours.closed("receipts", near, 4, seconds)
        yield ours.closed("hundred", near, 4, seconds, recipients=_MANY)
        for binds in BINDS:
            yield ours.closed("no receipts", near, binds, seconds, receipts=False)
            yield from filter(None, [theirs.best("no receipts", seconds)] if binds == 1 else [])
        yield ours.closed("far", far, 1, seconds, window=FAR_WINDOW)


@contextmanager
def stage(directory: Path) -> Iterator[tuple[Ours, Theirs, Smsc]]:
    """What runs during the rounds: a near and a far SMSC, a sink, the gateway bound to the near one."""
    with ExitStack() as stack:
        near, far = stack.enter_context(smsc()), stack.enter_context(smsc(FAR_MS))
        receiver = stack.enter_context(sink())
        furnish = (
            *account_words(_SILENT),
            ("channel", "add", "carrier", "smpp", *_channel_words(near)),
            ("route", "add", "carrier"),
            ("webhook", "set", ACCOUNT, "report", f"http://127.0.0.1:{receiver.port}/report"),
        )
        gate = stack.enter_context(gateway(directory, furnish))
        yield Ours(gate, receiver, directory), Theirs(near, receiver, directory), far


def _channel_words(host: Smsc) -> tuple[str, ...]:
    """As `channel add` reads them; the rate is not limited."""
    fixed = {
        "system_id": "bench",
        "window": WINDOW,
        "unrecorded": UNRECORDED,
        "rate": 0,
        "no_receipt_status": 0,
    }
    return (f'hosts=["127.0.0.1:{host.port}"]', *(f"{name}={value}" for name, value in fixed.items()))
