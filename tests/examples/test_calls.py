"""Every program of every language against the fake gateway, which knows all seven calls."""

import re

import pytest

pytestmark = pytest.mark.slow

PHONE = "0912345678"
LIMITED, CONFLICT = 429, 409


def _tran_id(done):
    """Of a program's words or of curl's JSON."""
    return re.search(r'tranId"?[: ]+(\d+)', done.out)[1]


def test_account(faked):
    """E-mail and balance."""
    done = faked("account")
    assert done.code == 0, done.err
    assert "test@example.com" in done.out
    assert "1000000" in done.out


def test_send(faked, fake):
    """Any text arrives as it was written, at each number; what is no number is shown."""
    text = "Xin chào bạn, Ướt đẫm 😀 \"'`$(id)`\\n {}%20&x=1 @/etc/passwd"
    done = faked.send(text, f"{PHONE},0987654321,12")
    assert done.code == 0, done.err
    assert [message.content for message in fake.messages] == [text, text]
    assert re.search('2 accepted|"totalSMS":2', done.out)
    assert re.search('invalid: 12|"invalidPhone":\\["12"\\]', done.out)


@pytest.mark.parametrize("sender", ["3 MYSHOP", "4 Verify", "5 phone1"])
def test_types(faked, fake, sender):
    """Types and their senders travel."""
    done = faked.send("Xin chào", PHONE, *sender.split())
    assert done.code == 0, done.err
    message = fake.messages.last
    assert f"{message.sms_type:d} {message.sender}" == sender


def test_voice(faked, fake):
    """A code is read aloud."""
    done = faked("voice", PHONE, "004930")
    assert done.code == 0, done.err
    assert fake.messages.last.content == "004930"
    assert re.search('400 VND|"totalPrice":400', done.out)


def test_pin(faked, fake):
    """A PIN is sent with accents around it; a wrong one is not taken for a right one."""
    done = faked("pin", "create", "fake-app", PHONE)
    assert done.code == 0, done.err
    assert fake.messages.last.content.startswith("Mã xác thực của bạn là ")
    pin = fake.wait_otp(PHONE)
    wrong = faked("pin", "verify", "fake-app", PHONE, f"{(int(pin) + 1) % 10**6:06d}")
    assert wrong.code == 1
    assert re.search('^wrong, 4 tries left$|"verified":false', wrong.out)
    right = faked("pin", "verify", "fake-app", PHONE, pin)
    assert right.code == 0, right.err
    assert re.search('^verified$|"verified":true', right.out)


def test_status(faked, fake):
    """The scale of sms/status, which is not the webhook's."""
    tran_id = _tran_id(faked.send("Xin chào", PHONE))
    fake.settle()
    done = faked("status", tran_id)
    assert done.code == 0, done.err
    assert re.search(f'^{PHONE} delivered$|"phone":"{PHONE}","status":2', done.out)


def test_mms(faked, fake):
    """A link goes through a device."""
    done = faked("mms", "Xin chào bạn", "https://shop.example/a.jpg?x=1&y=2", "phone1", PHONE)
    assert done.code == 0, done.err
    assert fake.messages.last.link == "https://shop.example/a.jpg?x=1&y=2"
    assert fake.messages.last.content == "Xin chào bạn"


def test_limited(together):
    """A call that came too early is made again when the gateway says so."""

    def check(faked, fake):
        fake.fail_next(LIMITED)
        done = faked.send("Xin chào", PHONE)
        assert done.code == 0, done.err
        fake.messages.assert_count(1)

    together(check)


def test_still_running(together):
    """A first try that still runs is neither a refusal nor a reason for a second message."""

    def check(faked, fake):
        fake.fail_next(CONFLICT)
        done = faked.send("Xin chào", PHONE)
        assert done.code == 0, done.err
        fake.messages.assert_count(1)

    together(check)


def test_unknown_outcome(together):
    """When every reply gets lost the key is said; with it the call sends nothing twice."""

    def check(faked, fake):
        fake.fail_next(reset=True, accepted=True, times=3)
        lost = faked.send("Xin chào", PHONE)
        assert lost.code == 5, lost.err
        key = re.search(r"(?:key |IDEMPOTENCY_KEY=)([0-9a-f-]{32,})", lost.err)[1]
        again = faked.send("Xin chào", PHONE, key=key)
        assert again.code == 0, again.err
        fake.messages.assert_count(1)

    together(check)


def test_refusal_after_a_lost_reply(together):
    """What was perhaps carried out is never called refused, whatever is answered afterwards."""

    def check(faked, fake):
        fake.fail_next(reset=True, accepted=True)
        fake.fail_next(LIMITED, times=5)
        done = faked.send("Xin chào", PHONE)
        assert done.code == 5, done.err
        fake.messages.assert_count(1)

    together(check)


def test_no_service(together):
    """Nobody there: an end with words, not a hang or a trace."""

    def check(faked, _):
        done = faked("account", SPEEDSMS_BASE_URL="http://127.0.0.1:9")
        assert done.code != 0
        assert done.err
        assert "Traceback" not in done.err

    together(check)


@pytest.mark.parametrize("base_url", ["http://sms.example", "http://127.0.0.1:8100@sms.example"])
def test_the_token_does_not_travel_in_clear(faked, base_url):
    """Plain HTTP to another machine is refused before anything leaves."""
    done = faked("account", SPEEDSMS_BASE_URL=base_url)
    assert done.code != 0
    assert "http" in done.err


def test_no_token(faked):
    """A missing token is said so."""
    done = faked("account", SPEEDSMS_TOKEN="")
    assert done.code != 0
    assert "SPEEDSMS_TOKEN" in done.err
