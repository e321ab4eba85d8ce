"""The SDK's `send_many` through a running gateway: numbers a second, and the memory of the client.

Each load is a process of its own, `python bench/sdk.py URL TOKEN NUMBERS sync|async`, and so is its peak.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

import page
from gateway import CONTENT, gateway
from machine import quiet

from speedsms import AsyncSpeedSMS, SpeedSMS

FEW, MANY = 10_000, 100_000
CONCURRENCY = 4


@dataclass(slots=True)
class Sent:
    """One load. peak_mb: the most memory the client's process had."""

    client: str
    numbers: int
    rate: float
    peak_mb: float
    accepted: int


def line(f: Sent) -> str:
    """One load in one line of the terminal."""
    bad = "" if f.accepted == f.numbers else f"  NOT ACCEPTED {f.numbers - f.accepted}"
    return f"send_many, {f.client:5} {f.numbers:8,} numbers {f.rate:9,.0f}/s  peak {f.peak_mb:.0f} MB{bad}"


def run(arguments: argparse.Namespace, directory: Path) -> list[Sent]:
    """Few and many numbers, with both clients, in turns."""
    seen = []
    with gateway(directory) as gate:
        for _ in range(arguments.rounds):
            for client in ("sync", "async"):
                for numbers in (FEW, MANY):
                    quiet()
                    words = [gate.url, gate.token, str(numbers), client]
                    done = subprocess.run(
                        [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE
                    )
                    seen.append(Sent(client, numbers, **json.loads(done.stdout)))
                    print(line(seen[-1]), flush=True)
                    gate.drained()
    return seen


def text(seen: list[Sent], arguments: argparse.Namespace, began: datetime) -> str:
    """Its section of the page."""
    lines = ["## The SDK", "", page.written(began)]
    lines += [
        f"`send_many` in {arguments.rounds} rounds, calls of 100 numbers, {CONCURRENCY} at a time, through"
    ]
    lines += ["a gateway as above. Client, gateway and PostgreSQL share the cores.", ""]
    lines += ["| measure | floor | measured: median [least–most] |", "|---|---|---|"]
    for client in ("sync", "async"):
        rates = [f.rate for f in seen if (f.client, f.numbers) == (client, MANY)]
        few, many = ([f.peak_mb for f in seen if (f.client, f.numbers) == (client, n)] for n in (FEW, MANY))
        lines += [
            f"| {client}, {MANY:,} numbers: numbers/s | ≥ 20,000 | {page.spread(rates, 0)} |",
            f"| {client}, {FEW:,} numbers: peak memory, MB | | {page.spread(few, 0)} |",
            f"| {client}, {MANY:,} numbers: peak memory, MB | | {page.spread(many, 0)} |",
            f"| {client}: memory of ten times the numbers | ≤ 1.1 × | {median(many) / median(few):.2f} × |",
        ]
    return "\n".join([*lines, ""])


def _numbers(count: int) -> Iterator[str]:
    """Spread over ten prefixes, as a customers' list is."""
    return (f"849{n % 9 % 8}{n:07}" for n in range(count))


def _sync(url: str, token: str, numbers: int) -> Counter[str]:
    with SpeedSMS(token, url) as sms:
        outcomes = sms.send_many(_numbers(numbers), CONTENT, concurrency=CONCURRENCY)
        return Counter(outcome.state.value for outcome in outcomes)


async def _async(url: str, token: str, numbers: int) -> Counter[str]:
    async with AsyncSpeedSMS(token, url) as sms:
        outcomes = sms.send_many(_numbers(numbers), CONTENT, concurrency=CONCURRENCY)
        return Counter([outcome.state.value async for outcome in outcomes])


def main() -> None:
    url, token, numbers, client = sys.argv[1:]
    began = time.monotonic()
    send = _sync if client == "sync" else lambda *words: asyncio.run(_async(*words))
    states = send(url, token, int(numbers))
    rate = int(numbers) / (time.monotonic() - began)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"rate": rate, "peak_mb": peak_mb, "accepted": states["accepted"]}))


if __name__ == "__main__":
    main()
