"""The far ends of the SMPP figures: a carrier's SMSC and a customer's receiver, both in C, both counting."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from machine import TOOLS, free_port

RECEIPT_AFTER_MS = 500
_START_S = 30.0


def awaited(port: int, process: subprocess.Popen[bytes], within_s: float = _START_S) -> None:
    """Wait until a process listens. Raises SystemExit if it ends or stays silent."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: {process.args!r} does not listen on port {port}") from None
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Smsc:
    """A simulated carrier. control: the port of its figures."""

    port: int
    control: int

    def stats(self) -> dict[str, Any]:
        return _asked(self.control, "stats")

    def reset(self) -> None:
        _asked(self.control, "reset")

    def bound(self, binds: int, since: int, within_s: float = 20.0) -> None:
        """Wait for so many binds more than `since`. Raises SystemExit."""
        deadline = time.monotonic() + within_s
        while self.stats()["binds"] < since + binds:
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {binds} binds did not come up within {within_s:.0f} s")
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Sink:
    """The receiver of webhooks; answers 200 to everything."""

    port: int

    def stats(self) -> dict[str, Any]:
        return _asked(self.port, "stats")

    def reset(self) -> None:
        _asked(self.port, "reset")


@contextmanager
def smsc(round_trip_ms: int = 0) -> Iterator[Smsc]:
    """It answers a submit_sm after round_trip_ms, and sends its receipt after RECEIPT_AFTER_MS."""
    carrier = Smsc(free_port(), free_port())
    options = ["-p", carrier.port, "-c", carrier.control, "-d", "-D", RECEIPT_AFTER_MS, "-r", round_trip_ms]
    with running([TOOLS / "smscsim", *options], carrier.port):
        yield carrier


@contextmanager
def sink() -> Iterator[Sink]:
    receiver = Sink(free_port())
    with running([TOOLS / "sink", "-p", receiver.port], receiver.port):
        yield receiver


@contextmanager
def running(
    command: list[Any], port: int, directory: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on a port; it is ended with the block."""
    process = subprocess.Popen(
        [str(word) for word in command], cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        awaited(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # its figures are taken already
            process.kill()
            process.wait()


def _asked(port: int, what: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/{what}", timeout=20) as reply:
        figures: dict[str, Any] = json.load(reply)
    return figures
