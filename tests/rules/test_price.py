"""A price is found or the number is invalid (protocol §11)."""

import json
from pathlib import Path

import pytest

from speedsms.contract.carriers import Carrier, carrier_of
from speedsms.contract.price import Prices, unit_price_vnd
from speedsms.wire import Kind, SmsType

GIVEN = json.loads(
    (Path(__file__).parents[1] / "wire/vectors/preconditions.json").read_text(encoding="utf8")
)["prices"]
PRICES = Prices(
    rows={SmsType(int(t)): vnd for t, vnd in GIVEN["sms_type"].items()}
    | {Kind.VOICE: GIVEN["voice"], Kind.MMS: GIVEN["mms"]},
    overrides={
        (SmsType(o["sms_type"]), Carrier[o["carrier"].upper()]): o["price_vnd"] for o in GIVEN["overrides"]
    },
    foreign=GIVEN["foreign"],
)


@pytest.mark.parametrize(
    ("product", "e164", "price_vnd"),
    [
        (SmsType.RANDOM_NUMBER, "84912345678", 250),
        (SmsType.RANDOM_NUMBER, "84591234567", 300),  # Gmobile has its own price for type 2
        (SmsType.BRANDNAME, "84591234567", 300),
        (SmsType.ADVERTISING, "84591234567", 400),
        (SmsType.RANDOM_NUMBER, "66812345678", 1500),
        (SmsType.BRANDNAME, "6581234567", 1800),
        (SmsType.RANDOM_NUMBER, "14155552671", None),
        (Kind.VOICE, "84912345678", 400),
        (Kind.MMS, "84591234567", 500),
    ],
)
def test_unit_prices(product, e164, price_vnd):
    """The carrier's price wins over the type's; a foreign number costs its country's or has no price."""
    assert unit_price_vnd(PRICES, product, carrier_of(e164, {}), e164) == price_vnd


def test_a_free_override_is_a_price():
    """A price of 0 for a carrier is not taken for a missing one."""
    prices = Prices({SmsType.DEVICE: 100}, {(SmsType.DEVICE, Carrier.ITEL): 0})
    assert unit_price_vnd(prices, SmsType.DEVICE, Carrier.ITEL, "84871234567") == 0
    assert unit_price_vnd(prices, SmsType.SHARED_BRANDNAME, Carrier.ITEL, "84871234567") is None
