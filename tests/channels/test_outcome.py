"""Every command_status has one meaning (channels §3.10, M6)."""

import pytest

from speedsms.gateway.channels.base import Reason
from speedsms.gateway.channels.smpp import outcome

SPEC = {
    Reason.THROTTLED: [0x58],
    Reason.QUEUE_FULL: [0x14],
    Reason.PEER_ERROR: [0x08, 0x45, 0x64, 0xFE, 0xFF, 0x102],
    Reason.NOT_WRITTEN: [0x04, 0x05],
    Reason.SENDER_REFUSED: [0x0A, 0x48, 0x49],
    Reason.NUMBER_REFUSED: [0x0B, 0x33, 0x50, 0x51],
    Reason.TOO_LONG: [0x01],
    Reason.UNSUPPORTED: [0x104],
    Reason.CONTENT_REFUSED: [0x65, 0x66],
    Reason.FAILED: [
        *[0x02, 0x03, 0x06, 0x07, 0x15, 0x43, 0x53, 0x54, 0x61, 0x62, 0x63, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4],
        *[0x0C, 0x11, 0x13, 0x34, 0x40, 0x42, 0x44, 0x55, 0x67, 0x100, 0x101, 0x103],
    ],
}
LISTED = {status: reason for reason, statuses in SPEC.items() for status in statuses}
LINK_SETTING = {0x48, 0x49, *SPEC[Reason.FAILED][:16]}
ALL = [*range(0x01, 0x105), *range(0x400, 0x500), 0x80000000, 0xFFFFFFFF]


@pytest.mark.parametrize("status", ALL, ids=hex)
def test_every_status_has_its_reason(status):
    """The table of §3.10 row by row; what nobody lists is temporary, so it is tried at most three times."""
    refused = outcome.refusal(status)
    assert refused.reason is LISTED.get(status, Reason.PEER_ERROR)
    assert refused.detail == f"0x{status:02x} {outcome.words(status)}"
    assert (status in outcome.ALARMS) == (status in LINK_SETTING)
    assert outcome.status_at_end(status) in {64, 65, 67, 70, 96, 99}


def test_the_operator_has_the_last_word():
    """`status_map` gives the carrier's own codes their meaning, and leaves the others alone."""
    status_map = {0x45B: Reason.OPTED_OUT, 0x08: Reason.NO_BALANCE}
    assert outcome.refusal(0x45B, status_map).reason is Reason.OPTED_OUT
    assert outcome.refusal(0x08, status_map).reason is Reason.NO_BALANCE
    assert outcome.refusal(0x45C, status_map).reason is Reason.PEER_ERROR


def test_words_are_for_people():
    """Each status has words, and those of two listed ones are never the same."""
    words = [outcome.words(status) for status in LISTED]
    assert len(set(words)) == len(words)
    assert outcome.words(0) == "ok"
    assert outcome.words(0x45B) != outcome.words(0x9999)
