"""Measures the gateway and writes docs/benchmarks.md: `make bench`, or `bench/run.py --quick` to try it.

Rounds are interleaved with the bare server that answers the same request, since figures move with the machine
and its neighbours: judge by the ratio. The load generator shares the cores.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import carried
import page
import smpp
import stock
from gateway import Gateway, closed, gateway
from machine import build, free_port, machine_cpu_s, open_loop, quiet

import sdk

HERE = Path(__file__).parent
_MANY = 100


@contextmanager
def _limit() -> Iterator[str]:
    """The bare server, one process; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "limit:app", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--lifespan", "off", "--no-access-log", "--log-level", "error"]
    process = subprocess.Popen(command, cwd=HERE)
    try:
        time.sleep(1.5)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


def _measure(gate: Gateway, kind: str, seconds: int, half: float, directory: Path) -> page.Figures:
    """One load on the gateway until all of it is final. half: the rate of an open loop."""
    rested = quiet()
    since, began = datetime.now(UTC), time.monotonic()
    before, machine = gate.cpu_s(), machine_cpu_s()
    if kind == "half":
        load = open_loop(gate.port, half, seconds, gate.template(directory))
    else:
        recipients = _MANY if kind == "hundred" else 1
        load = closed(gate.url, seconds, gate.credentials, recipients)
    until, loaded_s = datetime.now(UTC), time.monotonic() - began
    gate.drained()
    took_s = time.monotonic() - began
    after, spent_s = gate.cpu_s(), machine_cpu_s() - machine
    messages, during, last = gate.finals(since, until)
    used = {group: after[group] - before[group] for group in after}
    return page.Figures(
        kind=kind,
        accepted_s=load.rate * (_MANY if kind == "hundred" else 1),
        final_s=messages / max((last - since).total_seconds(), 0.001),
        final_during_s=during / loaded_s,
        drain_s=max((last - until).total_seconds(), 0.0),
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        bad=load.bad,
        messages=messages,
        cpu_ms={group: 1000 * s / max(messages, 1) for group, s in used.items()},
        pss_mb=gate.pss_mb(),
        others_cores=(spent_s - sum(used.values()) - load.cpu_s) / took_s,
        quiet=rested,
    )


def _bare(url: str, seconds: int, recipients: int) -> page.Figures:
    quiet()
    load = closed(url, seconds, "bm9ib2R5Ong=", recipients)
    kind = "limit hundred" if recipients > 1 else "limit"
    return page.Figures(
        kind=kind, accepted_s=load.rate * recipients, p50_ms=load.p50_ms, p99_ms=load.p99_ms, bad=load.bad
    )


def _say(figures: page.Figures) -> page.Figures:
    print(page.line(figures), flush=True)
    return figures


def _rounds(gate: Gateway, bare: str, rounds: int, seconds: int, directory: Path) -> Iterator[page.Figures]:
    for _ in range(rounds):
        yield _bare(bare, seconds, 1)
        single = _measure(gate, "single", seconds, 0, directory)
        yield single
        yield _measure(gate, "half", seconds, single.final_s / 2, directory)
        yield _bare(bare, seconds, _MANY)
        yield _measure(gate, "hundred", seconds, 0, directory)


def _stocked(gate: Gateway, bare: str, rounds: int, seconds: int, directory: Path) -> Iterator[page.Figures]:
    for _ in range(rounds):
        yield _bare(bare, seconds, 1)
        full = _measure(gate, "single", seconds, 0, directory)
        full.kind = "single, full tables"
        yield full


def _sim(arguments: argparse.Namespace, directory: Path) -> list[page.Figures]:
    """With a channel that answers at once: what the gateway itself takes."""
    rounds, seconds = arguments.rounds, arguments.seconds
    with gateway(directory) as gate, _limit() as bare:
        settings = {channel["name"]: channel["settings"] for channel in gate.speedsms("channel", "list")}
        assert settings["null"] == {"mode": "null"}
        _measure(gate, "single", 1, 0, directory)  # caches, plans and pools are warm in production too
        seen = [_say(figures) for figures in _rounds(gate, bare, rounds, seconds, directory)]
        if arguments.stock:
            stock.fill(gate.db, arguments.stock)
            seen += [_say(figures) for figures in _stocked(gate, bare, rounds, seconds, directory)]
        _check_ledger(gate)
    return seen


def _smpp(arguments: argparse.Namespace, directory: Path) -> list[carried.Carried]:
    """Through a carrier, beside Kannel."""
    seen = []
    with smpp.stage(directory) as (ours, theirs, far):
        for figures in smpp.rounds(ours, theirs, far, arguments.rounds, arguments.seconds):
            seen.append(figures)
            print(carried.line(figures), flush=True)
        seen.append(ours.otp(theirs.host, 1, arguments.seconds, arguments.backlog))
        print(carried.line(seen[-1]), flush=True)
        _check_ledger(ours.gate)
    return seen


def _check_ledger(gate: Gateway) -> None:
    difference_vnd = gate.speedsms("ledger", "check")["difference_vnd"]
    stored = gate.one("SELECT count(*) FROM message")[0]
    print(f"ledger check: difference {difference_vnd} VND over {stored:,} messages")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--quick", action="store_true", help="2 rounds of 3 s with empty tables; writes no page"
    )
    parser.add_argument("--only", choices=[*SETS], help="one of the sets of rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--stock", type=int, default=5_000_000, help="messages stored for the last rounds")
    parser.add_argument("--backlog", type=int, default=300_000, help="messages before one-time passwords")
    parser.add_argument("--dir", type=Path, help="where the data lies, on a real disk; removed afterwards")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.stock, arguments.backlog = 2, 3, 0, 30_000
    return arguments


SETS: dict[str, tuple[Callable[..., list[Any]], Callable[..., str]]] = {
    "sim": (_sim, page.text),
    "smpp": (_smpp, carried.text),
    "sdk": (sdk.run, sdk.text),
}


def main() -> None:
    arguments = _arguments()
    if not shutil.which("wrk"):
        raise SystemExit("bench: wrk is not on PATH: install the package wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the gateway is stopped with us
    build()
    for name in [arguments.only] if arguments.only else SETS:
        _set(name, arguments)


def _set(name: str, arguments: argparse.Namespace) -> None:
    """One set of rounds: its figures kept, its section of the page written."""
    run, text = SETS[name]
    directory = Path(tempfile.mkdtemp(prefix="speedsms-bench-", dir=arguments.dir))
    directory.chmod(0o755)  # the server's account must get through to its data
    began = datetime.now(UTC)
    try:
        seen = run(arguments, directory)
    finally:
        shutil.rmtree(directory)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / f"{began:%Y%m%dT%H%M%SZ}-{name}.json").write_text(
        json.dumps([asdict(f) for f in seen], indent=1)
    )
    section = text(seen, arguments, began)
    if not arguments.quick:
        page.put(HERE.parent / "docs/benchmarks.md", section)
    print(section)


if __name__ == "__main__":
    main()
