"""The clients against the fake gateway of the test kit, which answers what the real one answers."""

from collections import Counter
from unicodedata import normalize

import pytest

from speedsms import (
    InsufficientBalance,
    InvalidNumber,
    KeyConflict,
    NotSendable,
    OutcomeUnknown,
    Reason,
    SpeedSMS,
    TooLong,
    Unauthorized,
)
from speedsms.testing import fake_gateway
from speedsms.testing.book import APP_ID

PHONE = "0912345678"


@pytest.fixture
def fake():
    with fake_gateway() as fake:
        yield fake


@pytest.fixture
def sms(fake):
    with SpeedSMS(retries=2) as sms:
        assert sms.account().balance_vnd == fake.account.balance_vnd
        yield sms


def test_three_lines(fake):
    """The first sample of the documentation: the environment says where, one line sends (experience U3)."""
    SpeedSMS().send(PHONE, "Ma xac thuc cua ban la 493027", type=4, sender="Verify")
    fake.messages.assert_sent(PHONE, containing="493027", sender="Verify")


def test_a_verification(fake, sms):
    """A wrong PIN is false and costs an attempt; the right one is true, once (protocol §13)."""
    sms.create_pin(PHONE, "Ma cua ban: {pin_code}", app_id=APP_ID)
    pin = fake.wait_otp(PHONE)
    wrong = sms.verify_pin(PHONE, str((int(pin) + 1) % 10**6).zfill(6), app_id=APP_ID)
    assert not wrong
    assert wrong.remaining_attempts == 4
    assert sms.verify_pin(PHONE, pin, app_id=APP_ID)
    assert not sms.verify_pin(PHONE, pin, app_id=APP_ID)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("Xin chào", ()), ("xin chào ma\u0303", ("nfc",)), ("50%25", ()), ("\\u1ea3", ("literal_escapes",))],
)
def test_the_text_arrives_as_it_was_written(fake, sms, content, expected):
    """Composed, and otherwise untouched; the notices say so (protocol §1.3, §4.5)."""
    assert sms.send(PHONE, content).notices == expected
    assert fake.messages.last.content == normalize("NFC", content)


@pytest.mark.parametrize("how", [{"reset": True}, {"status": 500}])
def test_a_lost_reply_is_no_second_message(fake, sms, how):
    """It was accepted and the reply was lost: the repeat is a replay."""
    fake.fail_next(accepted=True, **how)
    sent = sms.send(PHONE, "hi")
    assert sent.replayed
    assert len(fake.messages) == 1


def test_a_key_of_ones_own(fake, sms):
    """Same call, same key: one message. Another call with it: a conflict."""
    first = sms.send(PHONE, "hi", key="order-42")
    again = sms.send(PHONE, "hi", key="order-42")
    assert (again.tran_id, again.replayed, first.replayed) == (first.tran_id, True, False)
    with pytest.raises(KeyConflict):
        sms.send(PHONE, "other", key="order-42")
    assert len(fake.messages) == 1


def test_refusals_with_their_reasons(fake, sms):
    """Class, reason and hint of what the gateway refuses."""
    for kind, reason, to, content in (
        (InvalidNumber, Reason.NUMBER_INVALID, "12", "hi"),
        (NotSendable, Reason.CODE_POINT, PHONE, "a\x01"),
        (TooLong, Reason.TOO_LONG, PHONE, "a" * 10_001),
    ):
        with pytest.raises(kind) as caught:
            sms.send(to, content)
        assert caught.value.reason is reason
        assert caught.value.hint
    fake.account.balance_vnd = 0
    with pytest.raises(InsufficientBalance):
        sms.send(PHONE, "hi")
    with SpeedSMS("wrong-token-wrong-token") as other, pytest.raises(Unauthorized):
        other.account()


def test_waiting_for_delivery(sms):
    """Until every number is final."""
    (status,) = sms.wait(sms.send(PHONE, "hi").tran_id, within_s=60)
    assert status.final


def test_many_through_lost_replies(fake, sms):
    """Whatever is lost on the way, each number gets one message."""
    to = [f"09{n:08}" for n in range(300)]
    fake.fail_next(reset=True, accepted=True, times=2)
    outcomes = [*sms.send_many(iter([*to, to[0], "12"]), "hi")]
    assert Counter(outcome.state.value for outcome in outcomes) == {
        "accepted": 300,
        "duplicate": 1,
        "invalid": 1,
    }
    assert Counter(message.phone for message in fake.messages) == Counter(to)


def test_keys_that_are_not_honoured(fake):
    """As with the vendor's service: the caller hears that nobody knows."""
    fake.fail_next(accepted=True, reset=True)
    with SpeedSMS(honours_keys=False) as sms, pytest.raises(OutcomeUnknown):
        sms.send(PHONE, "hi")
    assert len(fake.messages) == 1
