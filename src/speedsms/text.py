"""Content → the text that is sent, its encoding, its units and its billed parts (protocol §10).

The SDK previews with the very code that prices.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple
from unicodedata import category, normalize

# 3GPP TS 23.038: the default alphabet without CR and ESC, and its extension table without form feed.
# Of the accented Vietnamese letters only à è é ì ò ù É are in it: "mà" is GSM-7, "má" is not.
GSM7_BASIC: Final = (
    "@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENSION: Final = "^{}\\[~]|€"
_SINGLE_ASCII: Final = bytes(ord(c) for c in GSM7_BASIC if c.isascii())
_NOT_GSM7: Final = re.compile(f"[^{re.escape(GSM7_BASIC + GSM7_EXTENSION)}]")

# Controls, lone surrogates and noncharacters (protocol §10.5). Noncharacters end every plane; those beyond
# the first have a pattern of their own, because one character above U+FFFF makes a set ten times slower.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_ASTRAL: Final = re.compile(r"[\U00010000-\U0010ffff]")
_ASTRAL_ENDS: Final = re.compile(
    "["
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)

_LOOK_ALIKES: Final = {
    **dict.fromkeys("‘’‚‛′", "'"),
    **dict.fromkeys("“”„‟″", '"'),
    **dict.fromkeys("‐‑‒–—―", "-"),
    "…": "...",
    **dict.fromkeys([*map(chr, range(0x2000, 0x200B)), "\u00a0", "\u202f", "\u3000"], " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
}
_TYPOGRAPHIC: Final = re.compile("[" + "".join(_LOOK_ALIKES) + "]")
_STROKED_D: Final = str.maketrans("đĐ", "dD")  # a letter of its own: it has no decomposition

# ESC cannot stand in a text, so it marks what costs two units: an escape pair or a surrogate pair. The
# marked text is as long as its cost and shows where no part may end.
_ESC: Final = "\x1b"


class TextMode(StrEnum):
    """What may be done to a text before it is counted (protocol D38)."""

    KEEP = "keep"
    TIDY = "tidy"
    UNACCENT = "unaccent"


class Encoding(StrEnum):
    """How a text travels; units are septets in GSM-7 and UTF-16 units in UCS-2."""

    GSM7 = "gsm7"
    UCS2 = "ucs2"


SINGLE_UNITS: Final = {Encoding.GSM7: 160, Encoding.UCS2: 70}  # a message of one part
PART_UNITS: Final = {Encoding.GSM7: 153, Encoding.UCS2: 67}  # each of several: the header takes the rest


class NotSendable(ValueError):  # noqa: N818  the name says what is the matter, as the protocol's code does
    """A forbidden code point; `position` counts characters of the content from 0."""

    def __init__(self, position: int, code_point: int) -> None:
        super().__init__(f"U+{code_point:04X} at position {position} cannot be sent")
        self.position = position
        self.code_point = code_point


class Segments(NamedTuple):
    """A text as it will be sent; `changed` holds the notices of the steps that changed it.

    Notices: `nfc`, `tidied`, `unaccented`, in this order.
    """

    text: str
    encoding: Encoding
    units: int
    parts: int
    changed: tuple[str, ...] = ()


class Costly(NamedTuple):
    """A character that costs more than one septet."""

    position: int
    character: str
    units: int


class Savings(NamedTuple):
    """Parts that steps of protocol §10.1 take off a content: `nfc` is always done, the others on request."""

    nfc: int
    tidy: int
    unaccent: int


def segments(content: str, mode: TextMode = TextMode.KEEP, reserved: int = 0) -> Segments:
    """Normalise and count a content; `reserved` units are added by the carrier behind it (protocol §10.3).

    Raises NotSendable.
    """
    # Most contents are ASCII without a control or an escape character: no step changes those, and each
    # character is one septet.
    if content.isascii() and not content.encode().translate(None, _SINGLE_ASCII):
        return Segments(
            content, Encoding.GSM7, len(content), _flat_parts(len(content) + reserved, Encoding.GSM7)
        )
    text, changed = normalise(content, mode)
    encoding = Encoding.UCS2 if _NOT_GSM7.search(text) else Encoding.GSM7
    marked = _marked(text, encoding)
    units = len(marked)
    if units == len(text):
        return Segments(text, encoding, units, _flat_parts(units + reserved, encoding), changed)
    return Segments(text, encoding, units, len(_cut(marked + " " * reserved, encoding)), changed)


def normalise(content: str, mode: TextMode = TextMode.KEEP) -> tuple[str, tuple[str, ...]]:
    """The text that is sent, and the notices of the steps that changed it (protocol §10.1). Idempotent.

    Raises NotSendable.
    """
    if found := _FORBIDDEN.search(content) or (_has_astral(content) and _ASTRAL_ENDS.search(content)):
        raise NotSendable(found.start(), ord(found[0]))
    spaced = _spaced(content)
    # Phones and macOS often write NFD, which costs a Vietnamese sentence a quarter more units.
    text = normalize("NFC", spaced)
    changed: tuple[str, ...] = ("nfc",) if text != spaced else ()
    if mode is TextMode.KEEP:
        return text, changed
    tidied = _tidy(text)
    if tidied != text:
        changed += ("tidied",)
    if mode is TextMode.TIDY:
        return tidied, changed
    plain = fold(tidied)
    return plain, (*changed, "unaccented") if plain != tidied else changed


def _spaced(content: str) -> str:
    lines = content.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return lines.replace("\t", " ")


def _tidy(text: str) -> str:
    # NFC again: a zero-width character may have stood between a letter and its mark.
    return normalize("NFC", _TYPOGRAPHIC.sub(lambda found: _LOOK_ALIKES[found[0]], text))


def fold(text: str) -> str:
    """The text without accents: `Từ chối` → `Tu choi`. Letters that do not decompose stay, but for đ."""
    if text.isascii():
        return text
    letters = [c for c in normalize("NFD", text) if c < "\u0300" or category(c) != "Mn"]
    return normalize("NFC", "".join(letters).translate(_STROKED_D))


def split(text: str, encoding: Encoding) -> list[str]:
    """The parts of a normalised text as they are cut: greedy, no pair split; joined they are the text."""
    return [part.replace(_ESC, "") for part in _cut(_marked(text, encoding), encoding)]


def costly(text: str) -> list[Costly]:
    """The characters of a normalised text that cost: those that force UCS-2, else those of two septets."""
    if strangers := [*_NOT_GSM7.finditer(text)]:
        return [Costly(m.start(), m[0], 2 if m[0] > "\uffff" else 1) for m in strangers]
    return [Costly(position, c, 2) for position, c in enumerate(text) if c in GSM7_EXTENSION]


def savings(content: str) -> Savings:
    """What composing letters saved, and what `tidy` and `unaccent` would save more, in parts.

    Raises NotSendable.
    """
    kept = segments(content)
    written = _spaced(content)
    encoding = Encoding.UCS2 if _NOT_GSM7.search(written) else Encoding.GSM7
    as_written = len(_cut(_marked(written, encoding), encoding))
    tidied, plain = (segments(content, mode).parts for mode in (TextMode.TIDY, TextMode.UNACCENT))
    return Savings(as_written - kept.parts, kept.parts - tidied, kept.parts - plain)


def _marked(text: str, encoding: Encoding) -> str:
    if encoding is Encoding.UCS2:
        return _ASTRAL.sub(rf"{_ESC}\g<0>", text) if _has_astral(text) else text
    for character in GSM7_EXTENSION:
        text = text.replace(character, _ESC + character)
    return text


def _has_astral(text: str) -> bool:
    return len(text.encode("utf-16-le")) > 2 * len(text)  # five times quicker than a search


def _flat_parts(units: int, encoding: Encoding) -> int:
    """How many parts units make among which no pair stands."""
    return 1 if units <= SINGLE_UNITS[encoding] else -(-units // PART_UNITS[encoding])


def _cut(marked: str, encoding: Encoding) -> list[str]:
    if len(marked) <= SINGLE_UNITS[encoding]:
        return [marked]
    parts, start = [], 0
    while start < len(marked):
        end = start + PART_UNITS[encoding]
        if marked[end - 1 : end] == _ESC:  # the pair would be split: it moves to the next part
            end -= 1
        parts.append(marked[start:end])
        start = end
    return parts
