"""Nobody registers a name that reads as somebody else's (protocol D31)."""

import pytest

from speedsms.gateway.rules.brandnames import BrandnameFault, brandname_fault, skeleton

WRITTEN = """
    vietcombank VIETC0MBANK V1ETCOMBANK Vietcornbank VlETCOMBANK VIETCOM8ANK V.I.E.T.C0 VIETC0M-BAN
    VCB vcb V.C.B V-C-B V_C_B VC8 vVCB BIDV B1DV BlDV 81DV B.I.D.V bidv AGRIBANK AGR1BANK 4GRIBANK AGRI8ANK
    Agribank. TECHCOMBANK TECHC0MBANK T3CHCOMBANK Techcornbnk VPBANK VP8ANK VP-BANK TPBANK TP8ANK ACB AC8 4CB
    MBBANK M8BANK rnbbank rnb MB M8 SACOMBANK 5ACOMBANK SAC0MBANK HDBANK HD8ANK VIB V1B VlB SHB 5HB SH8 M5B
    VIETTEL V1ETTEL VIETTE1 VlETTEL Viette1 VNPT MOBIFONE M0BIFONE MOB1FONE MOBlF0NE VINAPHONE V1NAPHONE
    BOCONGAN B0CONGAN 80CONGAN BOCONG4N CONGAN C0NGAN VNEID VNE1D VNElD CSGT C5GT GOV G0V THUE THU3 Verify
    Ver1fy Notify N0tify M0MO MOM0 Z4LOPAY ZALOP4Y 2ALOPAY VNPAY vvINTEL wintel
"""
LOOK_ALIKES = WRITTEN.split()
NO_LOOK_ALIKES = {"V.I.E.T.C0", "VIETC0M-BAN", "vVCB", "Techcornbnk"}  # letters are missing or too many


@pytest.mark.parametrize("name", [name for name in LOOK_ALIKES if name not in NO_LOOK_ALIKES])
def test_reserved_names_are_refused(name):
    """Banks, government, carriers and the shared names, in every disguise of the form's alphabet."""
    assert brandname_fault(name, ()) in {BrandnameFault.RESERVED, BrandnameFault.FORM}
    assert len(name) > 11 or brandname_fault(name, ()) is BrandnameFault.RESERVED


@pytest.mark.parametrize(
    "name", ["A", "ACME", "Acme.vn", "a-b_c", "24H", "1234567890A", *sorted(NO_LOOK_ALIKES)]
)
def test_ordinary_names_pass(name):
    """One to eleven characters with a letter, like nobody else's."""
    assert brandname_fault(name, ()) is None


@pytest.mark.parametrize(
    "name", ["", "123", "...", "ABCDEFGHIJKL", "Cửa hàng", "VIETСOMBANK", "A\n", "A/B", "A B"]
)
def test_other_forms_are_refused(name):
    """No letter, too long, accents, Cyrillic look-alikes, control characters, spaces."""
    assert brandname_fault(name, ()) is BrandnameFault.FORM


def test_spaces_by_setting():
    """With the setting, single spaces inside are allowed, and do not hide a reserved name."""
    assert brandname_fault("Cua Hang", (), allow_space=True) is None
    assert brandname_fault("TP BANK", (), allow_space=True) is BrandnameFault.RESERVED
    for name in (" ACME", "ACME ", "A  B"):
        assert brandname_fault(name, (), allow_space=True) is BrandnameFault.FORM


def test_another_accounts_name_is_taken():
    """A name that looks like another account's is refused, whatever its case and separators."""
    taken = {skeleton("Cosmo-Shop")}
    assert brandname_fault("COSM0SHOP", taken) is BrandnameFault.TAKEN
    assert brandname_fault("Cosmo-Shops", taken) is None
