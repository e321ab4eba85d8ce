"""Figures for Prometheus. A process counts for itself; `/metrics` asks every process of the machine.

Each answers on a socket file of its own; whoever is scraped reads all of them and adds the label `process`.
Several machines are several targets.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_FAST_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000)
_STATES = ("starting", "up", "degraded", "paused", "down", "blocked", "draining", "stopped")
_PEER_S = 1.0
_NAME_OCTETS = 107

Family = TypeVar("Family", Counter, Gauge, Histogram)


class Children(dict[tuple[str, ...], Family]):
    """Label values → child, kept: the library's own look-up takes a lock and builds a tuple on every call."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self._family: Any = family

    def __missing__(self, labels: tuple[str, ...]) -> Family:
        child: Family = self._family.labels(*labels)
        self[labels] = child
        return child


class Metrics:
    """The figures of one process. No label holds a number, a text or an account."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self._accepted = Counter("speedsms_accepted_messages", "Messages accepted and committed", registry=r)
        self._parts = Counter("speedsms_accepted_parts", "Billed parts of accepted messages", registry=r)
        self._refused = Children(
            Counter("speedsms_refused_requests", "Refused requests", ["code", "reason"], registry=r)
        )
        self._http = Children(
            Histogram(
                "speedsms_http_seconds", "HTTP requests", ["endpoint", "status"], registry=r, buckets=_FAST_S
            )
        )
        self._commit_s = Children(
            Histogram("speedsms_commit_seconds", "Group commits", ["stage"], registry=r, buckets=_FAST_S)
        )
        self._commit_rows = Children(
            Histogram(
                "speedsms_commit_rows", "Rows in one group commit", ["stage"], registry=r, buckets=_ROWS
            )
        )
        self._dispatched = Children(
            Counter("speedsms_dispatched_messages", "Attempts handed to a channel", ["channel"], registry=r)
        )
        self._outcome = Children(
            Counter("speedsms_outcomes", "Attempts by outcome", ["channel", "outcome"], registry=r)
        )
        self._channel = Children(
            Gauge(
                "speedsms_channel_events",
                "What a channel has counted since it was started, by name",
                ["channel", "event"],
                registry=r,
            )
        )
        self._channel_up = Children(
            Gauge("speedsms_channel_up", "Whether a channel takes messages", ["channel"], registry=r)
        )
        self._channel_state = Enum(
            "speedsms_channel_state", "The state of a channel", ["channel"], registry=r, states=_STATES
        )
        self._receipt = Children(
            Counter("speedsms_receipts", "Receipts by what became of them", ["result"], registry=r)
        )
        self._webhook = Children(
            Histogram(
                "speedsms_webhook_seconds", "Webhook attempts", ["outcome"], registry=r, buckets=_FAST_S
            )
        )

    def accepted(self, messages: int, parts: int) -> None:
        self._accepted.inc(messages)
        self._parts.inc(parts)

    def refused(self, code: str, reason: str) -> None:
        self._refused[code, reason].inc()

    def http(self, endpoint: str, status: int, seconds: float) -> None:
        """`endpoint` is a name of ours, never the path as called: callers choose that."""
        self._http[endpoint, str(status)].observe(seconds)

    def commit(self, stage: str, rows: int, seconds: float) -> None:
        """One group commit of `accept`, `dispatch`, `report` or `notify`."""
        self._commit_s[stage,].observe(seconds)
        self._commit_rows[stage,].observe(rows)

    def dispatched(self, channel: str, messages: int) -> None:
        self._dispatched[channel,].inc(messages)

    def outcome(self, channel: str, outcome: str, attempts: int = 1) -> None:
        """`accepted`, `refused` or `unknown`."""
        self._outcome[channel, outcome].inc(attempts)

    def channel(self, name: str, counts: Mapping[str, int], state: str, *, up: bool) -> None:
        """A channel's state, and its own counts, such as `accepted` and `refused.throttled`."""
        self._channel_up[name,].set(up)
        self._channel_state.labels(name).state(state)
        for event, count in counts.items():
            self._channel[name, event].set(count)

    def receipt(self, result: str, receipts: int = 1) -> None:
        """`matched`, `parked`, `unmatched` or `repeated`."""
        self._receipt[result,].inc(receipts)

    def webhook(self, outcome: str, seconds: float) -> None:
        self._webhook[outcome,].observe(seconds)

    async def serve(self, directory: Path, process: str) -> asyncio.Server:
        """Answers every connection to `directory/process.sock` with the figures of this process."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240 - once, at the start
        path = directory / f"{process}.sock"
        path.unlink(missing_ok=True)

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(generate_latest(self.registry))
            await writer.drain()
            writer.close()

        with _reachable(path) as address:
            return await asyncio.start_unix_server(answer, address)


async def gather(directory: Path) -> bytes:
    """What `/metrics` answers: the figures of all processes that have a socket in `directory`."""
    sockets = sorted(directory.glob("*.sock"))  # noqa: ASYNC240 - a handful of names
    texts = await asyncio.gather(*map(_read, sockets))
    return merged({path.stem: text for path, text in zip(sockets, texts, strict=True) if text})


def merged(texts: Mapping[str, str]) -> bytes:
    """One exposition out of one per process: each family once, its samples labelled with their process."""
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for family in text_string_to_metric_families(text):
            if family.name.endswith("_created"):
                continue  # when a child was made: one more series for each, and of no use
            into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            into.samples += [s._replace(labels={**s.labels, "process": process}) for s in family.samples]
    registry = CollectorRegistry()
    registry.register(_Given(families.values()))
    return generate_latest(registry)


async def _read(path: Path) -> str:
    """Empty when the process has gone, or is too busy to answer."""
    try:
        async with asyncio.timeout(_PEER_S):
            with _reachable(path) as address:
                reader, writer = await asyncio.open_unix_connection(address)
            text = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return ""
    return text.decode()


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name of the socket that fits into its 107 octets, however deep the directory lies."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        short = len(os.fsencode(path)) <= _NAME_OCTETS
        yield str(path) if short else f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


class _Given(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
