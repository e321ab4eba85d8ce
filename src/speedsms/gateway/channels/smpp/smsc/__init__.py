"""A carrier in one process, for tests of any SMPP client: `Smsc` plays a `Script`."""

from speedsms.gateway.channels.smpp.smsc.journal import Line
from speedsms.gateway.channels.smpp.smsc.script import (
    Deliver,
    Limits,
    Play,
    Receipt,
    Rule,
    Script,
    Speech,
    Welcome,
    Wire,
)
from speedsms.gateway.channels.smpp.smsc.server import Smsc

__all__ = [
    "Deliver",
    "Limits",
    "Line",
    "Play",
    "Receipt",
    "Rule",
    "Script",
    "Smsc",
    "Speech",
    "Welcome",
    "Wire",
]
