"""Text fields of a multipart body (protocol D10); files, nesting and transfer encodings are refused."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from speedsms.contract.decode import BadMultipart
from speedsms.wire import Reason

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # it exists for type checkers only

_PLAIN = (b"", b"7bit", b"8bit", b"binary")


class _Fields:
    """Collects what the parser calls back with."""

    def __init__(self, most: int) -> None:
        self.found: list[tuple[bytes, bytes]] = []
        self.ended = False
        self._most = most
        self._headers: dict[bytes, bytes] = {}
        self._field = bytearray()
        self._value = bytearray()
        self._data = bytearray()
        self._name = b""

    def on_part_begin(self) -> None:
        if len(self.found) >= self._most:
            raise BadMultipart(Reason.JSON_LIMITS, f"more than {self._most} parameters")
        self._headers = {}
        self._data = bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        kind, _ = parse_options_header(self._headers.get(b"content-type"))
        if b"filename" in options or encoding not in _PLAIN or kind.startswith(b"multipart/"):
            raise BadMultipart(Reason.WRONG_TYPE, "only text fields are accepted")
        if b"name" not in options:
            raise BadMultipart(Reason.BAD_JSON, "a part without a name")
        self._name = options[b"name"]

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def on_part_end(self) -> None:
        self.found.append((self._name, bytes(self._data)))

    def on_end(self) -> None:
        self.ended = True


def fields(body: bytes, content_type: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """(name, value) of each field, in order. Raises BadMultipart."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadMultipart(Reason.BAD_JSON, "multipart without a boundary")
    seen = _Fields(most)
    callbacks: MultipartCallbacks = {
        "on_part_begin": seen.on_part_begin,
        "on_header_field": seen.on_header_field,
        "on_header_value": seen.on_header_value,
        "on_header_end": seen.on_header_end,
        "on_headers_finished": seen.on_headers_finished,
        "on_part_data": seen.on_part_data,
        "on_part_end": seen.on_part_end,
        "on_end": seen.on_end,
    }
    try:
        MultipartParser(boundary, callbacks).write(body)
    except FormParserError as error:
        raise BadMultipart(Reason.BAD_JSON, str(error)) from error
    if not seen.ended:
        raise BadMultipart(Reason.BAD_JSON, "the last boundary is missing")
    return seen.found
