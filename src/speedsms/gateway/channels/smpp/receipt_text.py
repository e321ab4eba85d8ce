"""The text of a receipt → what it says, word for word (channels SM-31). Pure, total, linear in its length."""

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final

from msgspec import Struct

from speedsms.gateway.channels.smpp import ids
from speedsms.gateway.rules.alphabet import Name, decode

_TEXT_OCTETS: Final = 4096
# As nearly every carrier writes it; whatever deviates is read key by key.
COMMON: Final = (
    rb"id:([^\s\"',;:\0]{1,255}) sub:\d{1,3} dlvrd:\d{1,3} submit date:\d{10,14} done date:(\d{10,14})"
    rb" stat:([A-Z]{1,16}) err:(\w{1,16}) [Tt]ext:"
)
_COMMON: Final = re.compile(COMMON.decode(), re.ASCII)
_KEY: Final = re.compile(
    r"(?:(?P<id>(?<![a-z])(?:message[ _-]?|msg[ _-]?)?id)|(?P<stat>stat(?:us|e)?)"
    r"|(?P<err>err(?:or)?(?:[ _]?code)?)|(?P<done>done[ _]?date)|(?P<text>text)|submit[ _]?date|sub|dlvrd)"
    r"[\"']?[ \t\r\n]*[:=]",
    re.IGNORECASE | re.ASCII,
)
_AROUND: Final = " \t\r\n,;|&\"'{}[]()"
_WORDS: Final = re.compile(r"[A-Za-z0-9_ -]{0,20}")
_ERR: Final = re.compile(r"[A-Za-z0-9_.-]{0,16}")

_FORMS: Final = {10: ("%y%m%d%H%M",), 12: ("%y%m%d%H%M%S", "%Y%m%d%H%M"), 14: ("%Y%m%d%H%M%S",)}


class Text(Struct, frozen=True):
    """What a text says, as written; "" where it does not."""

    id: str = ""
    done: str = ""
    stat: str = ""
    err: str = ""


def read(body: bytes, name: Name) -> Text:
    """What the octets of a receipt say. name: the alphabet of its data_coding; only packing matters."""
    # Without its NULs UCS-2 of either byte order is Latin-1, as far as the keys and values go.
    text = body[:_TEXT_OCTETS].replace(b"\0", b"").decode("latin-1")
    if common := _COMMON.match(text):
        return Text(*common.groups())
    found = _by_keys(text)
    if name == "gsm7_packed" and found == Text():
        return _by_keys(decode(body[:_TEXT_OCTETS], name)[0])
    return found


def _by_keys(text: str) -> Text:
    """Each value reaches to the next key. What follows `text` is a customer's, unless `text` comes first."""
    keys = list(_KEY.finditer(text))
    ends = [*(key.start() for key in keys[1:]), len(text)]
    found: dict[str, str] = {}
    for key, end in zip(keys, ends, strict=False):  # without keys there is one end too many
        name = key.lastgroup
        if name == "text":
            if key is not keys[0]:
                break
        elif name and (value := text[key.end() : end].strip(_AROUND)):
            found[name] = value if keys[0].lastgroup == "text" else found.get(name, value)
    return Text(
        "".join(found.get("id", "").split()[:1]).strip(_AROUND)[: ids.LONGEST],
        found.get("done", ""),
        _matched(_WORDS, found.get("stat", "")),
        _matched(_ERR, found.get("err", "")),
    )


def _matched(pattern: re.Pattern[str], value: str) -> str:
    found = pattern.match(value)
    return found[0].strip() if found else ""


@lru_cache(maxsize=4096)  # receipts come in bursts of the same minute or second
def times(written: str, zone: tzinfo) -> tuple[datetime, ...]:
    """What a date may mean, in UTC; with twelve digits it may have two of the year or four."""
    digits = "".join(filter("0123456789".__contains__, written))
    found = []
    for form in _FORMS.get(len(digits), ()):
        try:
            found.append(datetime.strptime(digits, form).replace(tzinfo=zone).astimezone(UTC))
        except (ValueError, OverflowError):  # no such day, or a year before the calendar
            continue
    return tuple(found)
