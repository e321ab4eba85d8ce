"""A number belongs to the holder of its prefix until it is ported (protocol §9.2)."""

import pytest

from speedsms.contract.carriers import Carrier, carrier_name, carrier_of
from speedsms.numbers import BLOCKS


def test_the_plan_without_a_holder():
    """Exactly 031, 095, 0990 and 0991 are numbers of nobody we know."""
    unknown = {block for block in BLOCKS if carrier_of(f"84{block}123456", {}) is Carrier.UNKNOWN}
    assert unknown == {f"{p}{d}" for p in ("31", "95") for d in range(10)} | {"990", "991"}


def test_a_slice_wins_over_the_range_around_it():
    """0559 is Wintel's, 0899 MobiFone's, 0998 Indochina's, whoever holds the numbers beside them."""
    entries = ("84559123456", "84899123456", "84998123456", "84997123456")
    found = [carrier_of(entry, {}) for entry in entries]
    assert found == [Carrier.WINTEL, Carrier.MOBIFONE, Carrier.INDOCHINA, Carrier.GMOBILE]


def test_portability_overrides_the_prefix():
    """A ported number has the carrier it moved to; its neighbour keeps the prefix's."""
    ported = {"84911000099": Carrier.GMOBILE}
    assert carrier_of("84911000099", ported) is Carrier.GMOBILE
    assert carrier_of("84911000098", ported) is Carrier.VINAPHONE


@pytest.mark.parametrize(
    ("e164", "name"), [("66812345678", "foreign:66"), ("14155552671", "foreign:1"), ("84871234567", "itel")]
)
def test_names(e164, name):
    """A foreign carrier is named by its country."""
    assert carrier_name(carrier_of(e164, {}), e164) == name
