"""Memory does not grow with what a carrier has sent: the map of receipts lives in the database (SM-37)."""

import tracemalloc
from datetime import UTC, datetime

import pytest
from carriers import FULL, often

from speedsms.gateway.channels.smpp import receipt
from speedsms.gateway.channels.smpp.pdu import (
    Address,
    Bind,
    BindResp,
    Command,
    DeliverSm,
    DeliverSmResp,
    encode,
)
from speedsms.gateway.channels.smpp.session import Asked, Role, Session

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0 if FULL else 60)]

NOW = datetime(2026, 1, 5, 3, tzinfo=UTC)
AT_ONCE = 100
GROWTH_OCTETS = 50_000  # not three for each receipt of the reduced count: a kept id alone takes fifty


def receipts(first):
    """As they come from a socket; no two have the same id or number."""
    for n in range(first, first + AT_ONCE):
        text = f"id:{n:08x}-7220bb6b sub:001 dlvrd:001 stat:DELIVRD err:{n % 1000:03d} text:"
        number = Address(1, 1, f"849{n % 100_000_000:08d}")
        pdu = DeliverSm(source=number, esm_class=4, short_message=text.encode())
        yield encode(pdu, n % 0x7FFFFFFF + 1)


def test_a_million_receipts_with_flat_memory():
    """Read, taken for a receipt, given keys, answered: the millionth costs no octet more than the first."""
    session, rules = Session(Role.ESME), receipt.ReceiptRules()
    session.bind(Bind(mode="transceiver", system_id="esme", password="secret"), 0.0)
    session.receive(encode(BindResp(mode="transceiver", system_id="smsc"), 1), 0.0)
    session.take()

    def play(first):
        """How many were answered."""
        seen = 0
        for event in session.receive(b"".join(receipts(first)), 1.0):
            assert isinstance(event, Asked)
            said = receipt.parse(event.frame.pdu, rules, NOW)
            assert said.parsed
            assert said.keys
            session.answer(event.sequence, DeliverSmResp(), Command.DELIVER_SM_RESP)
            seen += 1
        assert len(session.take()) > 16 * AT_ONCE
        return seen

    warm, many = 10_000, often(1_000_000, 20_000)
    tracemalloc.start()
    try:
        for first in range(0, warm, AT_ONCE):
            play(first)  # caches are bounded, and full by then
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        done = sum(play(first) for first in range(warm, warm + many, AT_ONCE))
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{done} receipts: {after - before} octets more, {peak - before} at the peak")
    assert done == many
    assert after - before < GROWTH_OCTETS
    assert peak - before < GROWTH_OCTETS + 5_000 * AT_ONCE  # and what one read holds meanwhile
