"""Text ↔ the octets that carry it in a short message (channels §3.8, SM-40). Pure, total in decoding."""

import codecs
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from speedsms.text import GSM7_BASIC, GSM7_EXTENSION

Name: TypeAlias = Literal["gsm7", "gsm7_packed", "ascii", "latin1", "ucs2", "data"]


class Flag(StrEnum):
    """What was odd about decoded octets; a link that shows it often has a wrong setting."""

    HIGH_OCTET = "high_octet"  # eight bits used where seven are defined
    BYTE_ORDER = "byte_order"  # a byte order mark, or little-endian text
    DAMAGED = "damaged"  # half a character: shown as U+FFFD


_ESC: Final = 0x1B
_CR: Final = 0x0D
_STRANGE: Final = "\ufffd"
_EXTENSION_CODES: Final = bytes((0x14, 0x28, 0x29, 0x2F, 0x3C, 0x3D, 0x3E, 0x40, 0x65))
_BASIC_CODES: Final = bytes(code for code in range(128) if code not in (_ESC, _CR))
# Code by code. CR and ESC stand for themselves: the first pads packed text, the second marks the extension.
# Peers that call Latin-1 the default alphabet are read by it where GSM-7 has nothing.
_SEPTETS: Final = dict(zip(_BASIC_CODES, GSM7_BASIC, strict=True)) | {_ESC: "\x1b", _CR: "\r"}
_TABLE: Final = "".join(_SEPTETS.get(code, chr(code) if code >= 0xA0 else _STRANGE) for code in range(256))
_CODES: Final = {ord(character): code for code, character in _SEPTETS.items() if code != _CR}
_SAME: Final = bytes(code for letter, code in _CODES.items() if letter == code != _ESC)  # as in ASCII
# ESC and the letter whose code is that of the character in the extension table: `€` is ESC `e`.
_ESCAPED: Final = {
    character: "\x1b" + _SEPTETS[code]
    for character, code in zip(GSM7_EXTENSION, _EXTENSION_CODES, strict=True)
}
_UNESCAPED: Final = {pair[1]: character for character, pair in _ESCAPED.items()}

# First octets of the units that Vietnamese and most Western text is made of; second octets seldom are these.
_LIKELY_HIGH: Final = b"\x00\x01\x1e"


def fits(text: str, name: Name) -> bool:
    """Whether the alphabet can carry each character of the text."""
    try:
        encode(text, name)
    except ValueError:
        return False
    return True


def encode(text: str, name: Name, *, header: int = 0) -> bytes:
    """The octets of a text; of `data` the text is hexadecimal. Raises ValueError if it does not fit.

    header: octets of user data header in front: packed septets begin at the next multiple of seven bits.
    """
    match name:
        case "gsm7":
            return _septets(text)
        case "gsm7_packed":
            return _pack(_septets(text), _fill_bits(header))
        case "ascii":
            return text.encode("ascii")
        case "latin1":
            return text.encode("latin-1")
        case "ucs2":
            return text.encode("utf-16-be")
        case "data":
            return bytes.fromhex(text)


def decode(octets: bytes, name: Name, *, header: int = 0) -> tuple[str, frozenset[Flag]]:
    """The text of any octets, and what was odd about them; U+FFFD stands for what cannot be read."""
    match name:
        case "gsm7":
            return _from_septets(octets)
        case "gsm7_packed":
            return _from_septets(unpack(octets, header))
        case "ascii":
            return octets.decode("latin-1"), _flagged(Flag.HIGH_OCTET, when=not octets.isascii())
        case "latin1":
            return octets.decode("latin-1"), frozenset()
        case "ucs2":
            return _from_units(octets)
        case "data":
            return octets.hex(), frozenset()


def unpack(octets: bytes, header: int = 0) -> bytes:
    """Packed septets, one per octet. header: octets of user data header that stood in front of them."""
    fill = _fill_bits(header)
    count = max(0, len(octets) * 8 - fill) // 7
    bits = f"{int.from_bytes(octets, 'little') >> fill:b}".zfill(count * 7)
    septets = bytes(int(bits[end - 7 : end], 2) for end in range(len(bits), len(bits) - count * 7, -7))
    # Seven bits left over look like one more septet: TS 23.038 fills them with CR, many peers with zeros,
    # which is `@`. A message that truly ends so is far rarer than one that is filled so.
    full = count > 0 and (fill + count * 7) % 8 == 0
    return septets[:-1] if full and septets[-1] in (0, _CR) else septets


def _septets(text: str) -> bytes:
    if text.isascii() and not (octets := text.encode()).translate(None, _SAME):
        return octets  # nearly all text in this alphabet
    if "\x1b" in text:
        raise ValueError("ESC is no character of a text")
    for character, pair in _ESCAPED.items():
        if character in text:
            text = text.replace(character, pair)
    return codecs.charmap_encode(text, "strict", _CODES)[0]


def _from_septets(octets: bytes) -> tuple[str, frozenset[Flag]]:
    text = codecs.charmap_decode(octets, "strict", _TABLE)[0]
    if "\x1b" in text:
        first, *rest = text.split("\x1b")
        # TS 23.038 §6.2.1.1: an unknown pair shows as the letter of the default alphabet.
        text = first + "".join(_UNESCAPED.get(pair[:1], pair[:1]) + pair[1:] for pair in rest)
    return text, _flagged(Flag.HIGH_OCTET, when=not octets.isascii())


def _fill_bits(header: int) -> int:
    return -header * 8 % 7


def _pack(septets: bytes, fill: int) -> bytes:
    bits = "".join(f"{septet:07b}" for septet in reversed(septets)) + "0" * fill
    if -len(bits) % 8 == 7:  # else the spare bits would read as `@`
        bits = f"{_CR:07b}" + bits
    return int(bits, 2).to_bytes(-(-len(bits) // 8), "little") if bits else b""


def _from_units(octets: bytes) -> tuple[str, frozenset[Flag]]:
    marked = octets[:2] in (codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)
    swapped = octets[:2] == codecs.BOM_UTF16_LE or (not marked and _little_endian(octets))
    body = octets[2:] if marked else octets
    text = body.decode("utf-16-le" if swapped else "utf-16-be", "replace")
    flags = _flagged(Flag.BYTE_ORDER, when=marked or swapped)
    return text, flags | _flagged(Flag.DAMAGED, when=_STRANGE in text)


def _little_endian(octets: bytes) -> bool:
    """At least two units, nearly all likely when read backwards, hardly any as they stand."""
    units = len(octets) // 2
    first, second = (
        len(half) - len(half.translate(None, _LIKELY_HIGH)) for half in (octets[::2], octets[1::2])
    )
    return units > 1 and second * 4 >= units * 3 and first * 4 <= units


def _flagged(flag: Flag, *, when: bool) -> frozenset[Flag]:
    return frozenset({flag}) if when else frozenset()
