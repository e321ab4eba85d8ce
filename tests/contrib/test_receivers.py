"""One promise for all frameworks: how an endpoint answers, and what its functions get."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from speedsms import SpeedSMS, webhook
from speedsms.contrib._receiver import Receiver
from speedsms.webhook import Incoming, Report

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
REPORT = b'{"type":"report","tranId":1234,"phone":"0912345678","status":0}'
INCOMING = b'{"type":"sms","phone":"0912345678","content":"\\u0110\\u1ed3ng \\u00fd"}'


def signed(body, event_id="evt_1", secret=SECRET):
    hints = {"X-Speedsms-Sequence": "1", "X-Speedsms-Receiver": "84901000008"}
    return webhook.sign(body, secret, event_id, int(time.time())) | hints


def test_events_arrive(post, inbox):
    """A report and an incoming SMS are answered with 204 and come typed."""
    assert post(REPORT, signed(REPORT)) == 204
    assert post(INCOMING, signed(INCOMING, "evt_2")) == 204
    assert inbox.events == [
        Report(1234, "0912345678", 0, "evt_1", 1),
        Incoming("0912345678", "Đồng ý", "evt_2", "84901000008"),
    ]


def test_an_event_is_worked_on_once(post, inbox):
    """Posted again, it is accepted, and nobody is called."""
    assert [post(REPORT, signed(REPORT)) for _ in range(3)] == [204, 204, 204]
    assert len(inbox.events) == 1


def test_what_failed_comes_again(post, inbox):
    """A function that raises is answered with 500; the next attempt reaches it."""
    inbox.failing = True
    assert [post(REPORT, signed(REPORT)) for _ in range(2)] == [500, 500]
    inbox.failing = False
    assert [post(REPORT, signed(REPORT)) for _ in range(2)] == [204, 204]
    assert len(inbox.events) == 1


def test_an_event_in_work_is_not_done_yet(post, inbox):
    """Posted again while its slow function runs, which may fail: neither called twice nor accepted."""
    begun, go_on, answers = threading.Event(), threading.Event(), []

    def meanwhile():
        begun.set()
        assert go_on.wait(60)

    inbox.meanwhile = meanwhile
    first = threading.Thread(target=lambda: answers.append(post(REPORT, signed(REPORT))))
    first.start()
    assert begun.wait(60)
    answers.append(post(REPORT, signed(REPORT)))
    go_on.set()
    first.join()
    assert answers == [503, 204]
    assert len(inbox.events) == 1


@pytest.mark.parametrize(
    ("status", "body", "secret"),
    [
        (401, REPORT, OTHER),
        (400, b"{}", SECRET),
        (400, b"", SECRET),
        (204, b'{"type":"call"}', SECRET),
        (413, b" " * 65_537, SECRET),
        (400, b" " * 65_536, SECRET),
    ],
    ids=["secret", "keys", "empty", "type", "long", "longest"],
)
def test_refusals(post, inbox, status, body, secret):
    """What is not genuine, not readable, unknown or too long never reaches a function."""
    assert post(body, signed(body, secret=secret)) == status
    assert not inbox.events


def test_unsigned(post, inbox):
    """Nobody is believed without a signature."""
    assert post(REPORT, {}) == 401
    assert not inbox.events


def test_only_post(post, inbox):
    """Other methods are not allowed."""
    assert post(b"", {}, "GET") == 405
    assert not inbox.events


def test_from_the_send_to_the_report(post, inbox, sms_gateway):
    """What the client sends is reported by the gateway in a signed webhook, and an answer comes back too."""
    sms_gateway.add_endpoint(post, secret=SECRET)
    with SpeedSMS() as sms:
        sent = sms.send("0912345678", "Xin chao", reference="order-42")
    sms_gateway.advance(60)
    sms_gateway.reply("0912345678", "Cảm ơn")
    report, incoming = inbox.events
    assert (report.tran_id, report.phone, report.delivered) == (sent.tran_id, "0912345678", True)
    assert (report.reference, report.sequence) == ("order-42", 1)
    assert (incoming.phone, incoming.content) == ("0912345678", "Cảm ơn")


def test_a_body_without_an_end_is_not_read_to_it():
    """What is too long is refused when it is, and not kept in memory."""
    from speedsms.contrib.asgi import WebhookApp

    pieces, answers = [], []

    async def receive():
        pieces.append(b" " * 1024)
        return {"type": "http.request", "body": pieces[-1], "more_body": len(pieces) < 1000}

    async def send(message):
        answers.append(message.get("status"))

    scope = {"type": "http", "method": "POST", "headers": []}
    asyncio.run(WebhookApp(SECRET)(scope, receive, send))
    assert answers[0] == 413
    assert len(pieces) == 65


class Promise:
    """What an async function returns."""

    def __await__(self):
        yield


def test_the_secret_is_not_shown():
    """Error reports show the objects that they find."""
    assert SECRET not in repr(Receiver(SECRET))


def test_a_function_nobody_waits_for_is_a_mistake():
    """An async function in a framework without an event loop would otherwise lose every event."""
    from speedsms.contrib._receiver import Receiver

    receiver = Receiver(SECRET, on_report=lambda _: Promise())
    with pytest.raises(TypeError, match="async"):
        receiver.answer("POST", signed(REPORT), REPORT)
    assert "evt_1" not in receiver.seen


def test_no_framework_is_loaded_but_ones_own():
    """The applications for bare servers need the standard library alone."""
    script = "import sys, speedsms.contrib.asgi, speedsms.contrib.wsgi; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"celery", "django", "fastapi", "flask", "httpx2", "starlette"}
