"""An entry of `to` → Number: plan, conversion of 2018, foreign rule, magic numbers (protocol §9, §16)."""

import re
from collections.abc import Collection
from typing import Final, NamedTuple

VIETNAM: Final = "84"
ANY_COUNTRY: Final = "*"  # as an opened country: every code but those of _NEVER_BY_WILDCARD

# The Vietnamese mobile plan (ITU E.164, protocol §9.2). The first three digits decide, so the pattern is
# unfolded once into its blocks and an entry costs one look-up.
_PLAN: Final = re.compile(r"5(?:2[238]|59)|89[6-9]|99[013-9]|(?:3\d|5[1689]|7[06-9]|8[1-8]|9[0-8])\d")
BLOCKS: Final = frozenset(block for block in map(str, range(100, 1000)) if _PLAN.fullmatch(block))

# In 2018 the eleven-digit numbers lost a digit and kept their last seven (protocol §9.3). People still have
# the old ones in their address books.
_CONVERSIONS: Final = (
    "162→32 163→33 164→34 165→35 166→36 167→37 168→38 169→39"  # Viettel
    " 120→70 121→79 122→77 126→76 128→78"  # MobiFone
    " 123→83 124→84 125→85 127→81 129→82"  # VinaPhone
    " 186→56 188→58 199→59"  # Vietnamobile, Gmobile
)
CONVERTED: Final = {old: new for old, _, new in (pair.partition("→") for pair in _CONVERSIONS.split())}

# Calling codes assigned by the ITU. No code begins another, so the first that fits is the one. Left out:
# 800 and 808, freephone and shared-cost services that receive nothing.
_TWO_DIGITS: Final = (
    "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58"
    " 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98"
)
_THREE_DIGITS: Final = (
    "211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236 237 238 239"
    " 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265"
    " 266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375"
    " 376 377 378 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509"
    " 590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686"
    " 687 688 689 690 691 692 850 852 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965"
    " 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998"
)
COUNTRY_CODES: Final = frozenset(["1", "7", *_TWO_DIGITS.split(), *_THREE_DIGITS.split()])

# Satellite and premium ranges: the goal of toll fraud, open only when named (protocol §9.4).
_NEVER_BY_WILDCARD: Final = frozenset({"870", "878", "881", "882", "883", "888", "979"})

# What phone books and spreadsheets put between digits: separators, fixed and zero-width spaces, marks of
# direction (protocol §9.1).
_NOISE: Final = dict.fromkeys(
    [
        *map(ord, " \t-.()\u00a0\u202f\u2060\ufeff"),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)
_CLEAN: Final = re.compile(r"(\+|00(?=[0-9]{9}))?([0-9]+)")

# Nine digits of today or ten of before 2018, behind what the form of §9.1 allows. A form counts by its
# length, never by its prefix alone: 084… is a VinaPhone mobile.
_SUBSCRIBER: Final = r"([1-9][0-9]{8}|1[0-9]{9})"
_AT_HOME: Final = re.compile(rf"(?:840?|0)?{_SUBSCRIBER}")
_FROM_ABROAD: Final = re.compile(rf"840?{_SUBSCRIBER}")

_MAGIC: Final = re.compile(r"(?:(?:\+|00)?840?|0)0{7}([0-9]{2})")
MAGIC_LAST: Final = 26


class Number(NamedTuple):
    """A number that can be sent to.

    `e164`: digits without `+`. `converted`: the entry was an old eleven-digit number.
    """

    e164: str
    converted: bool = False

    @property
    def is_foreign(self) -> bool:
        """Not of Vietnam's plan."""
        return not self.e164.startswith(VIETNAM)

    @property
    def national(self) -> str:
        """`0912345678`; a foreign number as its E.164 digits (protocol §9.5)."""
        return national(self.e164)


def national(e164: str) -> str:
    """Of E.164 digits what `Number.national` says."""
    return "0" + e164[2:] if e164.startswith(VIETNAM) else e164


def parse(entry: str, countries: Collection[str] = ()) -> Number | None:
    """The number an entry means, or None if it is invalid; `countries` are the opened calling codes.

    Only ASCII digits count: a guess at look-alike digits would send codes to strangers (protocol D33).
    """
    # Nearly every entry is `84…` or `0…` without noise: no pattern is run for those.
    digits = entry[2:] if entry[:2] == VIETNAM else entry[1:] if entry[:1] == "0" else ""
    if len(digits) == 9 and digits[:3] in BLOCKS and digits.isascii() and digits.isdigit():
        return Number(VIETNAM + digits)
    return _parse_any(entry, countries)


def _parse_any(entry: str, countries: Collection[str]) -> Number | None:
    clean = _CLEAN.fullmatch(entry.translate(_NOISE))
    if not clean:
        return None
    abroad, digits = clean.groups()
    if form := (_FROM_ABROAD if abroad else _AT_HOME).fullmatch(digits):
        return _vietnamese(form[1])
    # Bare digits are read as foreign only when too long for anything Vietnamese.
    long_enough = 8 if abroad else 11
    return Number(digits) if long_enough <= len(digits) <= 15 and _open(digits, countries) else None


def _vietnamese(subscriber: str) -> Number | None:
    old = len(subscriber) == 10
    digits = CONVERTED.get(subscriber[:3], "") + subscriber[3:] if old else subscriber
    return Number(VIETNAM + digits, old) if digits[:3] in BLOCKS and len(digits) == 9 else None


def _open(digits: str, countries: Collection[str]) -> bool:
    code = country_code(digits)
    if code is None or code == VIETNAM:
        return False
    return code in countries or (ANY_COUNTRY in countries and code not in _NEVER_BY_WILDCARD)


def masked(entry: str) -> str:
    """`84912345678`, in any spelling → `84•••••678`: enough to recognise one's own."""
    digits = "".join(filter(str.isdigit, entry)).removeprefix("00")
    return f"{'84' if digits.startswith('0') else digits[:2]}•••••{digits[-3:]}"


def country_code(e164: str) -> str | None:
    """The ITU calling code that E.164 digits begin with; None if it is not assigned."""
    return next((e164[:length] for length in (1, 2, 3) if e164[:length] in COUNTRY_CODES), None)


def magic(entry: str) -> int | None:
    """Which magic number, 1 to 26, an entry is in any spelling; None for all others (protocol §16)."""
    found = _MAGIC.fullmatch(entry.translate(_NOISE))
    return int(found[1]) if found and 1 <= int(found[1]) <= MAGIC_LAST else None
