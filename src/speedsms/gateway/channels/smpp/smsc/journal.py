"""What the simulated carrier saw and said, PDU by PDU, in time (channels §3.17)."""

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from speedsms.gateway.channels.smpp.pdu import BadPdu, Bind, Frame, command_name, decode

Way: TypeAlias = Literal["in", "out", "open", "close"]


class Line(NamedTuple):
    """One PDU, or the opening or the end of a connection. at: seconds since 1970 that never go back.

    octets: the whole PDU; what is none, as it came.
    """

    at: float
    connection: int
    way: Way
    octets: bytes

    @property
    def command(self) -> int:
        return int.from_bytes(self.octets[4:8])

    def frame(self) -> Frame | None:
        """None for octets that are no PDU."""
        try:
            return decode(self.octets)
        except BadPdu:
            return None

    def json(self) -> bytes:
        """One line for programs: passwords are left out, octets in hex, bytes inside the PDU in base64."""
        row: dict[str, Any] = {"at": round(self.at, 6), "connection": self.connection, "way": self.way}
        if not (frame := self.octets and self.frame()):
            return msgspec.json.encode({**row, "octets": self.octets.hex()}) + b"\n"
        row |= {"command": command_name(frame.command), "status": frame.status, "sequence": frame.sequence}
        if isinstance(frame.pdu, Bind):
            return msgspec.json.encode({**row, "pdu": replace(frame.pdu, password="")}) + b"\n"
        return msgspec.json.encode({**row, "pdu": frame.pdu, "octets": self.octets.hex()}) + b"\n"


class Journal:
    """The newest `keep` lines; `tell` gets every one."""

    def __init__(self, keep: int, tell: Callable[[Line], None], now: Callable[[], float]) -> None:
        self.lines: deque[Line] = deque(maxlen=keep)
        self._tell = tell
        self._now = now

    def add(self, connection: int, way: Way, octets: bytes = b"") -> None:
        line = Line(self._now(), connection, way, octets)
        self.lines.append(line)
        self._tell(line)
