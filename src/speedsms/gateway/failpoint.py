"""Named places at which a test ends, breaks or stalls this process (invariants §2); one check when off.

`failpoint.hit("S5")` stands right after the step of that name.
"""

import os
import signal
import time
from pathlib import Path

_file: Path | None = None


class FailpointHit(Exception):  # noqa: N818 - it stands for a mistake of ours that nobody foresaw
    """What the action `raise` raises; nothing catches it by name."""


def arm(file: str) -> None:
    """From now on each step looks into `file`, where a test writes S5=kill, S5=raise or S5=stall:2.5."""
    global _file  # noqa: PLW0603 - one switch per process, set once at its start
    _file = Path(file)


def hit(step: str) -> None:
    """Act if this step is asked for, once: only the process that takes the file away acts."""
    if _file and (action := _taken(_file, step)):
        _act(step, action)


def _taken(file: Path, step: str) -> str:
    try:
        name, _, action = file.read_text("utf8").strip().partition("=")
        if name != step:
            return ""
        file.unlink()
    except FileNotFoundError:
        return ""
    return action


def _act(step: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise FailpointHit(step)
    time.sleep(float(action.removeprefix("stall:")))
