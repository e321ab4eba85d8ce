"""What a send would be: parts, carriers, invalid entries and price, told offline by the code that prices."""

from collections import Counter
from collections.abc import Iterable, Mapping

from speedsms._calls import Entry, listed
from speedsms.contract.carriers import carrier_name, carrier_of
from speedsms.contract.recipients import read
from speedsms.contract.senders import DEFAULT_MAX_PARTS
from speedsms.results import Preview
from speedsms.text import TextMode, costly, savings, segments
from speedsms.wire import SmsType


def preview(
    to: Entry | Iterable[Entry],
    content: str,
    *,
    type: SmsType | int = SmsType.RANDOM_NUMBER,  # noqa: A002  the name it has on the wire
    text_mode: TextMode | str = TextMode.KEEP,
    price_vnd: int | Mapping[str, int] = 0,
) -> Preview:
    """Nothing is sent. `price_vnd`: of one part, for all numbers or by carrier id (protocol §9.2, §11).

    A carrier is told by the prefix; numbers that moved to another one may cost differently. Raises
    `speedsms.text.NotSendable`, and KeyError for a carrier without a price.
    """
    found = read(listed(to), (), test=False)
    counted = segments(content, TextMode(text_mode))
    carriers = Counter(carrier_name(carrier_of(n.e164, {}), n.e164) for n in found.numbers)
    prices = dict.fromkeys(carriers, price_vnd) if isinstance(price_vnd, int) else price_vnd
    return Preview(
        counted,
        dict(carriers),
        tuple(found.invalid),
        found.duplicates,
        counted.parts * len(found.numbers),
        counted.parts > DEFAULT_MAX_PARTS[SmsType(type)],
        sum(prices[carrier] * counted.parts * count for carrier, count in carriers.items()),
        tuple(costly(counted.text)),
        savings(content),
    )
