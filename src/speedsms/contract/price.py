"""The price table: what one billed part, one call or one MMS costs (protocol §11)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from speedsms.contract.carriers import Carrier
from speedsms.numbers import country_code
from speedsms.wire import Kind, SmsType

# What is sold: a part of a type, a call, an MMS. A PIN is sold as the type or the call that carries it.
Product = SmsType | Literal[Kind.VOICE, Kind.MMS]


@dataclass(frozen=True, slots=True)
class Prices:
    """Whole VND per part of a type, flat per call and MMS.

    `rows` holds the price of each product, `overrides` those that differ for a carrier, `foreign` the price
    of a part by country calling code.
    """

    rows: Mapping[Product, int]
    overrides: Mapping[tuple[Product, Carrier], int] = field(default_factory=dict)
    foreign: Mapping[str, int] = field(default_factory=dict)


def unit_price_vnd(prices: Prices, product: Product, carrier: Carrier, e164: str) -> int | None:
    """The price of one part (SMS), call or MMS to a number; None, without a row: the number is invalid."""
    if carrier is Carrier.FOREIGN:
        return prices.foreign.get(country_code(e164) or "")
    override = prices.overrides.get((product, carrier))
    return prices.rows.get(product) if override is None else override
