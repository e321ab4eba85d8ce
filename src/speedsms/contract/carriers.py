"""Number → carrier: the portability table, else the original holder of the prefix (protocol §9.2)."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from speedsms.numbers import BLOCKS, VIETNAM, country_code


class Carrier(IntEnum):
    """The small number is what is stored; the order is fixed."""

    UNKNOWN = 0
    VIETTEL = 1
    VINAPHONE = 2
    MOBIFONE = 3
    VIETNAMOBILE = 4
    GMOBILE = 5
    ITEL = 6
    WINTEL = 7
    INDOCHINA = 8
    FOREIGN = 9


# Prefixes without their zero. Slices held by other virtual operators are configuration: they enter by the
# portability table.
_PREFIXES: Final = {
    Carrier.VIETTEL: "32 33 34 35 36 37 38 39 86 96 97 98",
    Carrier.VINAPHONE: "81 82 83 84 85 88 91 94",
    Carrier.MOBIFONE: "30 51 70 76 77 78 79 896 897 898 899 90 93",
    Carrier.VIETNAMOBILE: "522 523 528 56 58 92",
    Carrier.GMOBILE: "59 993 994 995 996 997",
    Carrier.ITEL: "87",
    Carrier.WINTEL: "559",
    Carrier.INDOCHINA: "998 999",
}
_CARRIER_OF_PREFIX: Final = {prefix: c for c, prefixes in _PREFIXES.items() for prefix in prefixes.split()}
_CARRIER_OF_BLOCK: Final = {
    VIETNAM + block: _CARRIER_OF_PREFIX.get(block) or _CARRIER_OF_PREFIX.get(block[:2], Carrier.UNKNOWN)
    for block in BLOCKS
}


def carrier_of(e164: str, portability: Mapping[str, Carrier]) -> Carrier:
    """The carrier of a valid number; `portability` maps E.164 digits to the carrier a number moved to."""
    if moved_to := portability.get(e164):
        return moved_to
    if not e164.startswith(VIETNAM):
        return Carrier.FOREIGN
    return _CARRIER_OF_BLOCK.get(e164[:5], Carrier.UNKNOWN)


def carrier_name(carrier: Carrier, e164: str) -> str:
    """The carrier id as people and reports see it: `viettel`, or `foreign:66` with the number's country."""
    name = carrier.name.lower()
    return f"{name}:{country_code(e164)}" if carrier is Carrier.FOREIGN else name
