"""What the machine and each group of processes spend, and the two load generators."""

import json
import os
import random
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
TOOLS = HERE / "bin"
CLOSED_CONNECTIONS = {1: 256, 100: 64}  # by recipients: 64 calls of 100 fill the queue before the committer
OPEN_CONNECTIONS = 64
_QUIET_CORES = 0.25
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What a generator saw. answered: replies 2xx; cpu_s: its own."""

    answered: int
    bad: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_s: float


def build() -> None:
    """Compile the instruments that are older than their source."""
    TOOLS.mkdir(exist_ok=True)
    for source in (HERE / "instruments").glob("*.c"):
        program = TOOLS / source.stem
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["gcc", "-O2", "-w", "-o", program, source], check=True)


def free_port() -> int:
    """Below the range that Linux gives to connections: one of the load's would take it before its server."""
    while True:
        try:
            with socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))) as taken:
                return int(taken.getsockname()[1])
        except OSError:
            continue


def closed_loop(
    url: str, seconds: int, connections: int, environment: dict[str, str], script: Path = HERE / "load.lua"
) -> Load:
    """As fast as replies come."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency"]
    output, cpu_s = _run([*command, "-s", str(script), url], os.environ | environment)
    answered = int(_found(r"(\d+) requests in", output, "0"))
    bad = int(_found(r"Non-2xx or 3xx responses: (\d+)", output, "0"))
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", output, "0"))
    p50_ms, p99_ms = (_ms(_found(rf"\s{share}%\s+(\S+)", output, "0ms")) for share in (50, 99))
    return Load(answered - bad, bad, rate, p50_ms, p99_ms, cpu_s)


def open_loop(port: int, rate: float, seconds: int, template: Path) -> Load:
    """At a fixed rate; latency counts from the moment a request was due."""
    command = [str(TOOLS / "hgen"), "-P", str(port), "-c", str(OPEN_CONNECTIONS)]
    command += ["-r", str(rate), "-d", str(seconds), "-f", str(template)]
    output, cpu_s = _run(command, dict(os.environ))
    seen = json.loads(output)
    return Load(seen["ok"], seen["bad"] + seen["lost"], seen["rps"], seen["p50_ms"], seen["p99_ms"], cpu_s)


def _run(command: list[str], environment: dict[str, str]) -> tuple[str, float]:
    before = os.times()
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    after = os.times()
    spent_s = after.children_user + after.children_system - before.children_user - before.children_system
    return output, spent_s


def _found(pattern: str, text: str, otherwise: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else otherwise


def _ms(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    assert match
    return float(match[1]) * _UNITS_MS[match[2]]


def machine_cpu_s() -> float:
    """CPU that everything on the machine has used."""
    t = psutil.cpu_times()
    return float(t.user + t.nice + t.system + t.irq + t.softirq + t.steal)


def quiet(most_s: float = 8.0) -> bool:
    """Wait until the machine rests, so that nobody else is measured; whether it did."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        before = machine_cpu_s()
        time.sleep(0.5)
        if (machine_cpu_s() - before) / 0.5 < _QUIET_CORES:
            return True
    return False


def cpu_s(processes: list[psutil.Process], server: psutil.Process | None = None) -> float:
    """CPU of processes; of a server with its children, those that have ended too."""
    total = sum(sum(p.cpu_times()[:2]) for p in processes)
    if server:
        total += sum(server.cpu_times()[:4])
        for child in server.children(recursive=True):
            try:
                total += sum(child.cpu_times()[:2])
            except psutil.NoSuchProcess:  # it is in its parent's sum now
                continue
    return float(total)


def pss_mb(processes: list[psutil.Process]) -> float:
    return float(sum(p.memory_full_info().pss for p in processes)) / 1e6
