"""Kannel with its file store, for comparison: the same carrier, text and receiver of webhooks."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from carrier import Sink, Smsc, running
from machine import CLOSED_CONNECTIONS, HERE, Load, closed_loop, cpu_s, free_port

WINDOW = 100
BINDS = (1, 2, 4)  # of these the best is kept
_PATH = os.defpath + ":/usr/sbin"
_CONFIGURATION = """
group = core
admin-port = {admin}
admin-password = bench
admin-allow-ip = 127.0.0.1
smsbox-port = {boxes}
box-allow-ip = 127.0.0.1
log-file = "{directory}/bearerbox.log"
log-level = 4
dlr-storage = internal
sms-resend-freq = 60
smsbox-max-pending = 1000
store-type = file
store-location = "{directory}/store"
store-dump-freq = 10

group = smsc
smsc = smpp
smsc-id = carrier
host = 127.0.0.1
port = {smsc}
smsc-username = kannel
smsc-password = secret
system-type = ""
transceiver-mode = true
max-pending-submits = {window}
instances = {binds}
enquire-link-interval = 30
source-addr-autodetect = true
msg-id-type = 0x00
log-level = 4

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {boxes}
sendsms-port = {sendsms}
log-file = "{directory}/smsbox.log"
log-level = 4
max-pending-requests = 2000
global-sender = BENCH

group = sendsms-user
username = bench
password = bench
max-messages = 10
concatenation = true
user-allow-ip = 127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class Kannel:
    """A running pair of boxes."""

    port: int
    binds: int
    boxes: tuple[psutil.Process, ...]

    def cpu_s(self) -> dict[str, float]:
        return {box.name(): cpu_s([box]) for box in self.boxes}

    def load(self, seconds: int, content: str, sink: Sink | None) -> Load:
        """Messages to one recipient each, as fast as replies come; with a sink their receipts go there."""
        variables = {"CONTENT": content}
        if sink:
            variables["WEBHOOK"] = f"http://127.0.0.1:{sink.port}/report"
        url, script = f"http://127.0.0.1:{self.port}/", HERE / "rival.lua"
        return closed_loop(url, seconds, CLOSED_CONNECTIONS[1], variables, script)


def version() -> str | None:
    """Of the installed program, such as 1.4.5; None if there is none."""
    if not (_program("bearerbox") and _program("smsbox")):
        return None
    said = subprocess.run(
        [str(_program("bearerbox")), "--version"], capture_output=True, text=True, check=False
    )
    match = re.search(r"version `([^']+)'", said.stdout)
    return match[1] if match else "of unknown version"


def _program(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


@contextmanager
def kannel(directory: Path, carrier: Smsc, binds: int) -> Iterator[Kannel]:
    """Both boxes on fresh files, bound."""
    place = directory / f"kannel-{free_port()}"
    place.mkdir()
    ports = {"admin": free_port(), "boxes": free_port(), "sendsms": free_port(), "smsc": carrier.port}
    configuration = place / "kannel.conf"
    configuration.write_text(_CONFIGURATION.format(directory=place, window=WINDOW, binds=binds, **ports))
    since = carrier.stats()["binds"]
    bearerbox, smsbox = ([_program(name), "-v", "4", configuration] for name in ("bearerbox", "smsbox"))
    with running(bearerbox, ports["boxes"], place) as bearer, running(smsbox, ports["sendsms"], place) as box:
        carrier.bound(binds, since)
        yield Kannel(ports["sendsms"], binds, (psutil.Process(bearer.pid), psutil.Process(box.pid)))
    shutil.rmtree(place)
