"""What becomes of a message → TP-Status, the scale of reports (protocol §14.1, channels §2)."""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

FAILED: Final = 64  # no detail


class Cause(StrEnum):
    """Ends that we name ourselves, because no carrier did."""

    ANSWERED = "answered"
    INCOMPATIBLE = "incompatible"
    NOT_IN_SERVICE = "not_in_service"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    OPTED_OUT = "opted_out"
    REMOVED_BY_OPERATOR = "removed_by_operator"
    CONGESTION = "congestion"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    NO_RECEIPT = "no_receipt"
    UNKNOWN = "unknown"
    REJECTED = "rejected"
    FAILED = "failed"


OF_CAUSE: Final = MappingProxyType(
    {
        Cause.ANSWERED: 0,
        Cause.FAILED: FAILED,
        Cause.INCOMPATIBLE: 65,
        Cause.NOT_IN_SERVICE: 67,
        Cause.EXPIRED: 70,
        Cause.CANCELLED: 71,
        Cause.OPTED_OUT: 71,
        Cause.REMOVED_BY_OPERATOR: 72,
        Cause.CONGESTION: 96,
        Cause.BUSY: 97,
        Cause.NO_ANSWER: 98,
        Cause.NO_RECEIPT: 98,
        Cause.UNKNOWN: 98,
        Cause.REJECTED: 99,
    }
)

# The state words of SMPP receipts. None: no report is made of it.
OF_RECEIPT: Final = MappingProxyType(
    {
        "DELIVRD": 0,
        "UNDELIV": 69,
        "EXPIRED": 70,
        "DELETED": 72,
        "REJECTD": 99,
        "UNKNOWN": FAILED,
        "ENROUTE": None,
        "ACCEPTD": None,
    }
)


def fold(tp_status: int) -> int:
    """A carrier's own TP-Status, 0 to 127, as it is shown: 1 to 31 are kinds of *delivered* and become 0."""
    return 0 if tp_status < 32 else tp_status
