"""Text fields of a multipart body, by the standard library (protocol D10)."""

from email import message_from_bytes
from email.message import Message
from typing import Final

from speedsms.contract.decode import BadMultipart
from speedsms.wire import Reason

_PLAIN: Final = ("", "7bit", "8bit", "binary")


def fields(body: bytes, content_type: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """(name, value) of each field, in order. Raises BadMultipart."""
    whole = message_from_bytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body)
    parts = whole.get_payload()
    if not isinstance(parts, list) or whole.defects:
        raise BadMultipart(Reason.BAD_JSON, "the boundary or the last one is missing")
    if len(parts) > most:
        raise BadMultipart(Reason.JSON_LIMITS, f"more than {most} parameters")
    return [_field(part) for part in parts if isinstance(part, Message)]


def _field(part: "Message[str, str]") -> tuple[bytes, bytes]:
    encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
    if part.is_multipart() or part.get_filename() is not None or encoding not in _PLAIN:
        raise BadMultipart(Reason.WRONG_TYPE, "only text fields are accepted")
    name = part.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise BadMultipart(Reason.BAD_JSON, "a part without a name")
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)  # noqa: S101 - it is no multipart
    return name.encode("utf8", "surrogateescape"), payload
