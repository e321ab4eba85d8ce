"""The published figures: docs/reliability.md, one section per kind of run, each replaced by its own run."""

import re
from pathlib import Path

REPORT = Path(__file__).parents[2] / "docs/reliability.md"


def publish(lines):
    """Put a section in the place of the one with the same title; `lines` begin with its title."""
    sections = re.split(r"(?m)^(?=##? )", REPORT.read_text("utf8"))
    kept = {section.partition("\n")[0]: section.rstrip() for section in sections if section.strip()}
    kept[lines[0]] = "\n".join(lines).rstrip()
    REPORT.write_text("\n\n".join(kept.values()) + "\n", "utf8")
