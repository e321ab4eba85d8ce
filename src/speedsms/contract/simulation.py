"""What the simulated carrier can be told: outcomes by name, by magic number (protocol §16, channels §7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from speedsms.wire import Code, Reason


@dataclass(frozen=True, slots=True)
class Script:
    """What the carrier does with a message. refuse: a reason of refusal; receipts: (seconds, TP-Status)."""

    delay_s: float = 0.0
    refuse: str = ""
    refused_attempts: int = 1_000_000  # then it is taken
    retry_after_s: float | None = None
    unknown: bool = False
    receipts: tuple[tuple[float, int], ...] = ((0.3, 0),)
    repeats: int = 1
    early: bool = False
    reply: str = ""


# The outcomes that can be asked for by name; the numbers of protocol §16 and channels §7 play them.
SCRIPTS: Final[Mapping[str, Script]] = {
    "delivered": Script(),
    "temporary": Script(receipts=((0.2, 34), (1.0, 0))),
    "failed": Script(receipts=((0.3, 69),)),
    "late": Script(receipts=((60.0, 0),)),
    "twice": Script(repeats=2),
    "early": Script(receipts=((0.0, 0),), early=True),
    "never": Script(receipts=()),
    "yes": Script(reply="YES"),
    "stop": Script(reply="TC"),
    "throttled": Script(refuse="throttled", refused_attempts=1, retry_after_s=5.0),
    "unknown": Script(unknown=True, receipts=((2.0, 0),)),
    "lost": Script(unknown=True, receipts=()),
    "refused": Script(refuse="sender_refused"),
    "peer_error": Script(refuse="peer_error", refused_attempts=1),
}
MAGIC: Final[Mapping[int, str]] = {
    1: "delivered",
    2: "temporary",
    3: "failed",
    8: "late",
    9: "delivered",  # the repetition is the webhook's: receipts of one message are absorbed
    10: "early",
    11: "never",
    14: "yes",
    15: "stop",
    16: "throttled",
    17: "unknown",
    18: "lost",
    19: "refused",
}
# Those of the numbers that decide for the whole call.
REFUSALS: Final[Mapping[int, tuple[Code, Reason]]] = {
    5: (Code.BALANCE, Reason.BALANCE),
    6: (Code.NOT_SENDABLE, Reason.CODE_POINT),
    7: (Code.IP_LOCKED, Reason.IP_LOCKED),
}
