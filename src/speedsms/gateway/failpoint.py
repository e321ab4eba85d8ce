"""Named places at which a test ends, breaks or stalls this process (invariants §2); free when off.

Each is `if failpoint.ARMED: failpoint.hit("S5")`, right after the step of that name.
"""

import os
import signal
import time
from pathlib import Path

ARMED = False
_file = Path()


class FailpointHit(Exception):  # noqa: N818 - it stands for a mistake of ours that nobody foresaw
    """What the action `raise` raises; nothing catches it by name."""


def arm(file: str) -> None:
    """Each step looks into `file` from now on, where a test writes `S5=kill`, `S5=raise` or `S5=stall:2.5`."""
    global ARMED, _file  # noqa: PLW0603 - one switch per process, set once at its start
    ARMED, _file = True, Path(file)


def hit(step: str) -> None:
    """Act if `file` names this step, once: the process that takes the file away is the one that acts."""
    try:
        name, _, action = _file.read_text().strip().partition("=")
        if name != step:
            return
        _file.unlink()
    except FileNotFoundError:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise FailpointHit(step)
    time.sleep(float(action.removeprefix("stall:")))
