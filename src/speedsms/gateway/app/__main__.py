"""One child of the supervisor: `python -m speedsms.gateway.app ROLE NAME LIFELINE [SOCKET]`.

LIFELINE is a pipe that ends when the supervisor does, so no child outlives it. SOCKET listens already.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvloop

from speedsms.gateway import config, failpoint, log
from speedsms.gateway.app import api, worker


async def _child(role: str, name: str, lifeline: int, *listening: int) -> None:
    settings = config.load(file=None, environ=os.environ).settings
    log.configure(settings.log.level, settings.log.format, process=name)
    if armed := os.environ.get("SPEEDSMS_FAILPOINT_FILE"):
        failpoint.arm(armed)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def orphaned() -> None:
        loop.remove_reader(lifeline)  # what has ended stays readable
        stop.set()

    loop.add_reader(lifeline, orphaned)
    metrics_dir = Path(settings.data_dir) / "run"
    if role == "api":
        with socket.socket(fileno=listening[0]) as sock:
            await api.run(settings, stop, metrics_dir, sock, name)
    else:
        await worker.run(settings, stop, metrics_dir, name)


def main() -> None:
    role, name, lifeline, *rest = sys.argv[1:]
    # What start-up made lives for ever, and a request leaves no cycles; collecting costs a tenth of CPU.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    with suppress(KeyboardInterrupt):
        uvloop.run(_child(role, name, int(lifeline), *map(int, rest)))


if __name__ == "__main__":
    main()
