"""Which brandnames an account may register: form, reserved names, look-alikes (protocol D31)."""

import re
from collections.abc import Container
from enum import StrEnum
from typing import Final

_FORM: Final = re.compile(r"(?=.{1,11}\Z)(?=.*[A-Za-z])[A-Za-z0-9._-]+(?: [A-Za-z0-9._-]+)*")

# What one glance at a phone does not tell apart, among the characters of the form (after UTS 39, and the
# digits that fraud puts for letters). Case is ignored, so a capital I makes every i an l.
_ONE_GLANCE: Final = str.maketrans("01i234589", "ollzeasbg", "._- ")

_RESERVED_NAMES: Final = """
    ABBANK ACB AGRIBANK BACABANK BAOVIETBANK BIDV BVBANK CAKE CBBANK CIMB CITIBANK COOPBANK DONGABANK EXIMBANK
    GPBANK HDBANK HSBC INDOVINA IVB KIENLONG KLB LIENVIET LPB LPBANK MB MBBANK MBV MSB NAMABANK NCB OCB
    OCEANBANK PGBANK PUBLICBANK PVCOMBANK SACOMBANK SAIGONBANK SCB SEABANK SHB SHINHAN STANCHART TCB
    TECHCOMBANK TIMO TNEX TPB TPBANK UOB VBSP VCB VCBNEO VDB VIB VIETABANK VIETBANK VIETCOMBANK VIETINBANK
    VPB VPBANK VRB WOORI WOORIBANK
    MOMO NAPAS PAYOO SHOPEEPAY VIETTELPAY VNPAY VTMONEY ZALOPAY
    BCA BCT BGDDT BHXH BHXHVN BKHCN BNV BOCONGAN BOQUOCPHONG BOTAICHINH BOYTE BQP BTC BTP BTTTT BYT
    CHINHPHU CONGAN CSGT CUCTHUE DICHVUCONG DVC DVCQG GDT GOV HAIQUAN NHNN PCCC QUOCHOI SBV THUE TOAAN
    TONGCUCTHUE UBND VKSND VNEID
    CMC FPT GMOBILE GTEL ITEL LOCAL MOBICAST MOBIFONE REDDI VIETTEL VINAPHONE VNMOBILE VNPT VNSKY WINTEL
    VERIFY NOTIFY
"""


def skeleton(name: str) -> str:
    """Equal for names that look alike, whatever their case and separators."""
    return name.lower().translate(_ONE_GLANCE).replace("rn", "m").replace("vv", "w")


# Banks and wallets, government, carriers, and the shared brandnames of type 4.
_RESERVED: Final = frozenset(map(skeleton, _RESERVED_NAMES.split()))


class BrandnameFault(StrEnum):
    """Why a name cannot be registered."""

    FORM = "form"
    RESERVED = "reserved"
    TAKEN = "taken"


def brandname_fault(name: str, taken: Container[str], *, allow_space: bool = False) -> BrandnameFault | None:
    """Why an account may not register a name, or None; `taken` holds the skeletons of all others."""
    if not _FORM.fullmatch(name) or (" " in name and not allow_space):
        return BrandnameFault.FORM
    look = skeleton(name)
    if look in _RESERVED:
        return BrandnameFault.RESERVED
    return BrandnameFault.TAKEN if look in taken else None
