"""What came of a load through a carrier, and its section of the page: each figure beside floor and rival."""

import argparse
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from carrier import RECEIPT_AFTER_MS
from gateway import WEBHOOKS_IN_FLIGHT
from page import spread, written

FAR_MS = 50
OTP_RATE = 50.0
# Kind of load, what it is, the floor of the rate, of its ratio to Kannel.
LOADS: tuple[tuple[str, str, float, float], ...] = (
    ("receipts", "1 recipient, receipt and webhook", 6000, 1.4),
    ("no receipts", "1 recipient, no receipt", 9000, 1.0),
    ("hundred", "100 recipients, receipt and webhook", 15_000, 0),
    ("far", f"1 recipient, receipt and webhook, carrier answers after {FAR_MS} ms", 1500, 0),
)
# Kind of load, what it is, the most that p50 and p99 may be, ms.
WAITS: tuple[tuple[str, str, str, str], ...] = (
    ("half", "half load, 1 recipient, receipt and webhook", "≤ 10", "≤ 50"),
    ("otp", f"one-time passwords, {OTP_RATE:.0f}/s, behind a backlog", "", "≤ 500"),
)


@dataclass(slots=True)
class Carried:
    """One load. rate_s: messages from the first request to the last arrival, of webhooks where there are any.

    steady_s: median of the full seconds at the SMSC. missing: accepted or submitted, but not arrived. p50_ms,
    p99_ms: from the request to the SMSC, of requests with a stamp. backlog: what waited when the load ended.
    """

    kind: str
    system: str
    settings: str
    rate_s: float
    steady_s: float
    accepted: int
    arrived: int
    missing: int
    bad: int
    cpu_ms: dict[str, float] = field(default_factory=dict)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    backlog: int = 0
    others_cores: float = 0.0
    quiet: bool = True

    @property
    def all_cpu_ms(self) -> float:
        return sum(self.cpu_ms.values())


def line(f: Carried) -> str:
    """One load through a carrier in one line of the terminal."""
    groups = " ".join(f"{group} {ms:.3f}" for group, ms in f.cpu_ms.items())
    return (
        f"{f.kind:12} {f.system:9} {f.rate_s:8,.0f}/s  steady {f.steady_s:8,.0f}/s"
        f"  to the SMSC p50 {f.p50_ms:.1f} p99 {f.p99_ms:.1f} ms"
        f"  accepted {f.accepted:,} arrived {f.arrived:,} missing {f.missing:,} bad {f.bad}"
        f"  CPU {f.all_cpu_ms:.3f} ms ({groups})  [{f.settings}]"
        f"  others {f.others_cores:.2f} cores{'' if f.quiet else ', noisy'}"
    )


def text(seen: list[Carried], arguments: argparse.Namespace, began: datetime) -> str:
    """Its section: loads, waits, ratios and CPU."""
    lines = ["## Through a carrier over SMPP", "", *_settings(seen, arguments, began), ""]
    lines += ["| load | gateway | messages/s | steady/s | floor | CPU, ms/message | missing |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for kind, name, floor, _ in LOADS:
        for system, settings in dict.fromkeys((f.system, f.settings) for f in seen if f.kind == kind):
            of = [f for f in seen if (f.kind, f.system, f.settings) == (kind, system, settings)]
            rates = f"{spread([f.rate_s for f in of], 0)} | {spread([f.steady_s for f in of], 0)}"
            asked = f"≥ {floor:,}" if system == "speedsms" else ""
            cpu_ms = median(f.all_cpu_ms for f in of)
            missing = sum(f.missing for f in of)
            lines.append(
                f"| {name} | {system}: {settings} | {rates} | {asked} | {cpu_ms:.3f} | {missing:,} |"
            )
    return "\n".join([*lines, "", *_waits(seen), "", *_ratios(seen), ""])


def _settings(seen: list[Carried], arguments: argparse.Namespace, began: datetime) -> list[str]:
    return [
        written(began),
        f"{arguments.rounds} rounds of {arguments.seconds} s, the two gateways by turns, 256 connections, 64",
        "with 100 recipients and in the open loop. Messages are counted at a simulated SMSC, which sends",
        f"receipts {RECEIPT_AFTER_MS} ms later, and as webhooks at their receiver. The rate is what arrived,",
        "divided by the time from the first request to the last arrival; *steady* is the median of the full",
        "seconds at the SMSC. We reply after the commit to disk; Kannel's file store does not sync.",
        f"At most {WEBHOOKS_IN_FLIGHT} of our calls to the receiver are in flight. Load generator, SMSC and",
        f"receiver share the cores; other programs took {median(f.others_cores for f in seen):.2f} cores.",
        *([] if any(f.system == "Kannel" for f in seen) else ["Kannel was not installed."]),
    ]


def _waits(seen: list[Carried]) -> list[str]:
    lines = [
        "| from the request to the SMSC | gateway | p50, ms | | p99, ms | |",
        "|---|---|---|---|---|---|",
    ]
    for kind, name, p50, p99 in WAITS:
        if of := [f for f in seen if f.kind == kind]:
            backlog = f" of which {of[0].backlog:,} still waited at the end" if of[0].backlog else ""
            waits = (
                f"{spread([f.p50_ms for f in of], 1)} | {p50} | {spread([f.p99_ms for f in of], 1)} | {p99}"
            )
            lines.append(f"| {name}{backlog} | {of[0].settings} | {waits} |")
    return lines


def _ratios(seen: list[Carried]) -> list[str]:
    """To Kannel in the same round."""
    lines = []
    for kind, name, _, floor in LOADS:
        theirs = [f.rate_s for f in seen if (f.kind, f.system) == (kind, "Kannel")]
        for settings in dict.fromkeys(f.settings for f in seen if (f.kind, f.system) == (kind, "speedsms")):
            ours = [f.rate_s for f in seen if (f.kind, f.settings) == (kind, settings)]
            if theirs:
                ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
                lines.append(f"- {name}, {settings}: {spread(ratios, 2)} × Kannel (at least {floor})")
    return lines
