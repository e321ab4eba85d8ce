"""The page of figures: each beside its floor, its aim, and the limit of the same run."""

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

LIMITS = {"single": "limit", "hundred": "limit hundred", "single, full tables": "limit"}


@dataclass(slots=True)
class Figures:
    """One load. Rates are numbers per second, cpu_ms is per message and group of processes.

    final_s: from the first request until the last message was final; others_cores: what neighbours took.
    """

    kind: str
    accepted_s: float
    p50_ms: float
    p99_ms: float
    bad: int
    final_s: float = 0.0
    final_during_s: float = 0.0
    drain_s: float = 0.0
    messages: int = 0
    cpu_ms: dict[str, float] = field(default_factory=dict)
    pss_mb: float = 0.0
    others_cores: float = 0.0
    quiet: bool = True


Measure = Callable[[Figures], float]


def total_cpu_ms(figures: Figures) -> float:
    return sum(figures.cpu_ms.values())


# What is measured, how it is written, the floor, the aim.
ROWS: tuple[tuple[str, str, Measure, int, str, str], ...] = (
    ("1 recipient: messages/s until final", "single", lambda f: f.final_s, 0, "≥ 8,000", "14,000"),
    ("1 recipient: accepted and committed/s", "single", lambda f: f.accepted_s, 0, "", ""),
    ("1 recipient: final/s during the load", "single", lambda f: f.final_during_s, 0, "", ""),
    ("1 recipient: seconds to drain", "single", lambda f: f.drain_s, 2, "", ""),
    ("half load: accept p50, ms", "half", lambda f: f.p50_ms, 1, "", ""),
    ("half load: accept p99, ms", "half", lambda f: f.p99_ms, 1, "≤ 25", "8"),
    (
        "100 recipients: numbers accepted and committed/s",
        "hundred",
        lambda f: f.accepted_s,
        0,
        "≥ 50,000",
        "120,000",
    ),
    ("100 recipients: numbers/s until final", "hundred", lambda f: f.final_s, 0, "", ""),
    ("1 recipient: CPU of all processes, ms/message", "single", total_cpu_ms, 3, "≤ 0.30", "0.16"),
    ("100 recipients: CPU of all processes, ms/message", "hundred", total_cpu_ms, 3, "", ""),
    ("memory of all Python processes (PSS), MB", "single", lambda f: f.pss_mb, 0, "≤ 200", "120"),
    ("bare server, 1 recipient: requests/s", "limit", lambda f: f.accepted_s, 0, "", ""),
    ("bare server, 100 recipients: numbers/s", "limit hundred", lambda f: f.accepted_s, 0, "", ""),
    (
        "full tables, 1 recipient: messages/s until final",
        "single, full tables",
        lambda f: f.final_s,
        0,
        "",
        "",
    ),
    ("full tables, 1 recipient: CPU, ms/message", "single, full tables", total_cpu_ms, 3, "", ""),
)


def line(f: Figures) -> str:
    """One load in one line of the terminal."""
    if f.kind.startswith("limit"):
        return f"{f.kind:20} {f.accepted_s:9,.0f}/s  p50 {f.p50_ms:6.1f}  p99 {f.p99_ms:6.1f} ms"
    latency = f"p50 {f.p50_ms:6.1f}  p99 {f.p99_ms:6.1f} ms"
    groups = " ".join(f"{group} {ms:.3f}" for group, ms in f.cpu_ms.items())
    return (
        f"{f.kind:20} {f.accepted_s:9,.0f}/s  {latency}  final {f.final_s:8,.0f}/s"
        f" (during {f.final_during_s:,.0f}, drained in {f.drain_s:.2f} s)"
        f"  CPU {total_cpu_ms(f):.3f} ms ({groups})  PSS {f.pss_mb:.0f} MB"
        f"  others {f.others_cores:.2f} cores{'' if f.quiet else ', noisy'}  bad {f.bad}"
    )


def put(page: Path, section: str) -> None:
    """Write a section in the place of the one with the same heading, or at the end."""
    head, *sections = page.read_text().split("\n## ")
    found = dict(part.split("\n", 1) for part in sections)
    heading, body = section.removeprefix("## ").split("\n", 1)
    found[heading] = body
    page.write_text(
        "\n## ".join([head.rstrip() + "\n", *(f"{h}\n\n{b.strip()}\n" for h, b in found.items())])
    )


def text(seen: list[Figures], arguments: argparse.Namespace, began: datetime) -> str:
    """Its section. No figure is promised by a test: they move with disk and neighbours."""
    lines = ["## With a channel that answers at once", "", *_settings(seen, arguments, began), ""]
    lines += ["| measure | floor | aim | measured: median [least–most] |", "|---|---|---|---|"]
    for name, kind, measure, digits, floor, aim in ROWS:
        if values := [measure(f) for f in seen if f.kind == kind]:
            lines.append(f"| {name} | {floor} | {aim} | {spread(values, digits)} |")
    lines += ["", *_ratios(seen), "", *_groups(seen), ""]
    return "\n".join(lines)


def _settings(seen: list[Figures], arguments: argparse.Namespace, began: datetime) -> list[str]:
    noisy = median(f.others_cores for f in seen if f.cpu_ms)
    return [
        written(began),
        f"{arguments.rounds} interleaved rounds of {arguments.seconds} s, 256 connections, 64 with 100",
        "recipients and in the open loop.",
        "One api process, one worker, embedded PostgreSQL with fsync on, every reply after its commit,",
        "a channel that answers at once. The load generator shares the cores; other programs took",
        f"{noisy:.2f} cores meanwhile.",
        "",
        "The bare server decodes the same request and answers it, and stores nothing: the limit.",
    ]


def written(began: datetime) -> str:
    memory_gib = psutil.virtual_memory().total / 2**30
    machine = f"{psutil.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB"
    return f"Written by `make bench` on {began:%Y-%m-%d}: {machine}, CPython {platform.python_version()};"


def _processor() -> str:
    models = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
    return models[0].partition(": ")[2] if models else platform.machine()


def spread(values: list[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}–{max(values):,.{digits}f}]"


def _ratios(seen: list[Figures]) -> list[str]:
    """To the limit measured just before, and of full tables to empty ones."""
    lines = []
    for kind, limit in LIMITS.items():
        pairs = [(b.accepted_s, a.accepted_s) for a, b in pairwise(seen) if (a.kind, b.kind) == (limit, kind)]
        if pairs:
            lines.append(
                f"- {kind}: {median(ours / bare for ours, bare in pairs):.2f} of the bare server's rate"
            )
    full = [f.final_s for f in seen if f.kind == "single, full tables"]
    if full:
        slower = median(f.final_s for f in seen if f.kind == "single") / median(full) - 1
        lines.append(f"- a message takes {slower:+.0%} time with full tables (at most +20 %)")
    return lines


def _groups(seen: list[Figures]) -> list[str]:
    """Where the CPU goes, in ms per message."""
    kinds = list(dict.fromkeys(f.kind for f in seen if f.cpu_ms))
    names = list(next(f for f in seen if f.cpu_ms).cpu_ms)
    lines = [f"| CPU, ms/message | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for kind in kinds:
        cells = [f"{median(f.cpu_ms[name] for f in seen if f.kind == kind):.3f}" for name in names]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines
