"""The fake gateway plays outcomes, sends webhooks and fails as it is told to."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Verifier

from speedsms import AsyncSpeedSMS, SpeedSMS
from speedsms.contract.pin import Application
from speedsms.contract.request import Reply
from speedsms.contract.webhook import Incoming
from speedsms.testing import Account, FakeGateway, Script, Sender, SenderKind, Token, fake_gateway
from speedsms.testing.book import APP_ID, TEST_TOKEN, TOKEN
from speedsms.wire import Kind, Progress

WEBHOOKS = json.loads(
    (Path(__file__).parents[1] / "wire" / "vectors" / "webhooks.json").read_text(encoding="utf-8")
)["cases"]
NOON = datetime(2026, 12, 7, 5, tzinfo=UTC)
BASIC = ((b"Authorization", b"Bearer " + TOKEN.encode()),)
TEST = ((b"Authorization", b"Bearer " + TEST_TOKEN.encode()),)


def call(fake, path, headers=BASIC, **parameters) -> tuple[Reply, dict]:
    method = "POST" if parameters else "GET"
    reply = fake.answer(method, path.encode(), headers, json.dumps(parameters).encode())
    return reply, json.loads(reply.body)


def send(fake, to="0912345678", content="Ma: 493027", headers=BASIC, **more):
    return call(fake, "/sms/send", headers, to=to, content=content, **more)[1]


def progress(fake, tran_id):
    return call(fake, f"/sms/status/{tran_id}")[1]["data"][0]["status"]


@pytest.fixture
def fake():
    return FakeGateway(now=NOON)


@pytest.fixture
def heard(fake):
    """The webhooks a function receives, as (body, headers)."""
    heard = []
    fake.add_endpoint(lambda body, headers: heard.append((json.loads(body), headers)))
    return heard


# ---------------------------------------------------------------- outcomes


def test_a_message_is_delivered_by_default(fake, heard):
    """It waits, is sent and delivered, and its report says so."""
    tran_id = send(fake)["data"]["tranId"]
    assert progress(fake, tran_id) == Progress.PENDING
    fake.settle()
    assert progress(fake, tran_id) == Progress.DELIVERED
    assert [body for body, _ in heard] == [
        {"type": "report", "tranId": tran_id, "phone": "0912345678", "status": 0}
    ]


@pytest.mark.parametrize(
    ("outcome", "reported", "after"),
    [
        ("temporary", [34, 0], Progress.DELIVERED),
        ("failed", [69], Progress.FAILED),
        ("never", [], Progress.SENT),
        ("twice", [0, 0], Progress.DELIVERED),
        ("throttled", [0], Progress.DELIVERED),
        ("lost", [], Progress.SENT),
        ("refused", [99], Progress.FAILED),
        (Script(receipts=((0.1, 33), (0.2, 97))), [33, 97], Progress.FAILED),
    ],
    ids=str,
)
def test_outcomes_are_scripted_by_phone(fake, heard, outcome, reported, after):
    """The script of a phone decides its reports and its state; other phones are delivered to."""
    fake.script("+84 912 345 678", outcome)
    send(fake), send(fake, "0987654321")
    fake.settle()
    mine = [body["status"] for body, _ in heard if body["phone"] == "0912345678"]
    assert mine == reported
    assert [m.status for m in fake.messages] == [after, Progress.DELIVERED]


def test_a_repeated_webhook_has_one_id(fake, heard):
    """Who receives it twice can see that it is the same (§14.3)."""
    fake.script("*", "twice")
    send(fake)
    fake.settle()
    assert len({headers["webhook-id"] for _, headers in heard}) == 1
    assert len(heard) == 2


def test_a_script_can_run_out(fake):
    """After so many messages the phone is as it was."""
    fake.script("0912345678", "failed", times=1)
    send(fake), send(fake)
    fake.settle()
    assert [m.status for m in fake.messages] == [Progress.FAILED, Progress.DELIVERED]


def test_late_reports_wait_for_the_clock(fake):
    """Nothing comes before its time, and `advance` is how time passes."""
    fake.script("*", "late")
    send(fake)
    fake.advance(59)
    assert fake.messages.last.status is Progress.SENT
    fake.advance(1)
    assert fake.messages.last.status is Progress.DELIVERED


def test_scheduled_messages_wait(fake):
    """A message with send_at is held until then."""
    send(fake, send_at=(NOON + timedelta(hours=1)).isoformat())
    fake.settle()
    assert fake.messages.last.status is Progress.PENDING
    fake.advance(3600)
    assert fake.messages.last.status is Progress.DELIVERED


def test_an_unknown_outcome_is_named(fake):
    """A misspelt script says what there is."""
    with pytest.raises(ValueError, match="delivered, temporary, failed"):
        fake.script("*", "delivred")


def test_what_no_carrier_took_costs_nothing(fake):
    """A refused message and an unanswered call are paid back; a failed message is not (§11)."""
    for outcome, endpoint, left_vnd in (
        ("refused", "/sms/send", 0),
        ("failed", "/voice/otp", 0),
        ("failed", "/sms/send", 250),
    ):
        before_vnd = fake.account.balance_vnd
        fake.script("*", outcome)
        call(fake, endpoint, to="0912345678", content="1234")
        fake.settle()
        assert before_vnd - fake.account.balance_vnd == left_vnd


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("84000000001", ["report 0"]),
        ("84000000002", ["report 34", "report 0"]),
        ("84000000003", ["report 69"]),
        ("84000000009", ["report 0", "report 0"]),
        ("84000000011", []),
        ("84000000014", ["report 0", "sms YES"]),
        ("84000000015", ["report 0", "sms TC"]),
    ],
)
def test_magic_numbers(fake, heard, number, told):
    """With a test token the number chooses the outcome and nothing is charged (§16)."""
    before_vnd = fake.account.balance_vnd
    assert send(fake, number, headers=TEST)["code"] == "00"
    fake.settle()
    assert [f"{b['type']} {b.get('status', b.get('content'))}" for b, _ in heard] == told
    assert fake.account.balance_vnd == before_vnd


def test_an_early_report_comes_before_the_reply(fake, heard):
    """Magic number 10: when the call returns, its report has been heard."""
    send(fake, "84000000010", headers=TEST)
    assert [body["status"] for body, _ in heard] == [0]


def test_magic_number_13_cuts_the_connection(fake):
    """The message is accepted, its reply never comes; the same key tells what was answered."""
    keyed = (*TEST, (b"Idempotency-Key", b"k"))
    with pytest.raises(ConnectionResetError):
        send(fake, "84000000013", headers=keyed)
    assert len(fake.messages) == 1
    assert send(fake, "84000000013", headers=keyed)["code"] == "00"
    assert len(fake.messages) == 1


# ---------------------------------------------------------------- webhooks


# What each cause is on the scale of reports (protocol §14.1).
STATUSES = {
    "DELIVRD": 0,
    "UNDELIV": 69,
    "EXPIRED": 70,
    "DELETED": 72,
    "REJECTD": 99,
    "UNKNOWN": 64,
    "answered": 0,
    "busy": 97,
    "no_answer": 98,
    "rejected": 99,
    "expired": 70,
    "opted_out": 71,
    "removed_by_operator": 72,
    "not_in_service": 67,
}


def status_of(cause):
    ((kind, value),) = cause.items()
    return value if kind == "tp_status" else STATUSES.get(value)


@pytest.mark.parametrize("case", WEBHOOKS, ids=lambda case: case["id"])
def test_webhook_vector_on_the_fake(case, stored):
    """The fake posts exactly the golden body and headers."""
    given, expect = case["given"], case["expect"]
    fake = FakeGateway(now=datetime.fromtimestamp(given["timestamp"], UTC))
    fake.account.phone_form = given["phone_form"]
    endpoint = fake.add_endpoint(lambda *_: None, [given["endpoint"]["event"]])
    endpoint.secrets = tuple(given["endpoint"]["secrets"])
    endpoint.legacy_secret = given["endpoint"]["legacy_secret"]
    if incoming := given.get("incoming"):
        phone, text = incoming["from"], incoming["content"]
        fake.reply(phone, text, receiver=incoming["receiver"], event_id=given["webhook_id"])
    elif (code := status_of(given["cause"])) is not None:
        told = given["message"]
        fake.messages.append(
            stored(fake, told["tranId"], told["e164"], told["entry"], reference=told["reference"])
        )
        fake.report(told["entry"], code, event_id=given["webhook_id"])
    assert len(fake.posts) == expect["posts"]
    for post in fake.posts:
        headers = {name.lower(): value for name, value in post.headers.items()}
        assert post.body.decode() == expect["body"]
        assert expect["headers"].items() <= headers.items()
        assert not headers.keys() & set(expect.get("headers_absent", ()))


@pytest.fixture
def stored():
    """A message that was not sent through the wire."""

    def make(fake, tran_id, e164, entry, *, reference):
        send(fake)
        message = fake.messages.pop()
        message.tran_id, message.e164, message.entry, message.reference = tran_id, e164, entry, reference
        return message

    return make


def test_a_reply_reaches_the_account_that_wrote(fake, heard):
    """An incoming message names the sender it answers; an opt-out stops further advertising."""
    fake.account.senders.append(Sender(SenderKind.BRANDNAME, "SHOP", ad=True))
    ad = {"content": "[QC] Sale. Tu choi: soan TC", "sms_type": 1, "sender": "SHOP"}
    send(fake, **ad)
    fake.reply("0912345678", "TC")
    (body, headers), *_ = heard
    assert body == {"type": "sms", "phone": "0912345678", "content": "TC"}
    assert headers["X-Speedsms-Receiver"] == "SHOP"
    assert send(fake, **ad)["code"] == "105"


def test_webhooks_reach_a_server_and_verify(receiver):
    """A URL gets the POST that a stock verifier accepts; its answer is kept."""
    with fake_gateway() as gateway:
        endpoint = gateway.add_endpoint(receiver.url)
        with SpeedSMS() as sms:
            sms.send("0912345678", "hi")
        body, headers = receiver.next()
        gateway.settle()
    assert Verifier(endpoint.secrets[0]).verify(body, headers)["status"] == 0
    assert [post.status for post in gateway.posts] == [204]


class Receiver:
    """A customer's web server."""

    def __init__(self):
        heard = self.heard = []
        self._arrived = threading.Semaphore(0)
        arrived = self._arrived

        class Page(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                heard.append((self.rfile.read(length), dict(self.headers)))
                arrived.release()
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.server.server_port}/sms?from=fake"

    def next(self):
        assert self._arrived.acquire(timeout=60)
        return self.heard[-1]


@pytest.fixture
def receiver():
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.01,))
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


def test_a_receiver_that_fails_is_written_down(fake):
    """What a receiver raises does not stop the fake; the error stands in `posts`."""

    def broken(*_):
        raise KeyError

    fake.add_endpoint(broken)
    fake.add_endpoint("http://127.0.0.1:1/nobody")
    send(fake)
    fake.settle()
    assert [(post.status, post.error.partition("(")[0]) for post in fake.posts] == [
        (0, "KeyError"),
        (0, "ConnectionRefusedError"),
    ]


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"code": "300"}, 200, "300"),
        ({"code": "101", "reason": "sender_not_found"}, 200, "101"),
        ({"status": 500}, 500, 0),
        ({"status": 429}, 429, 0),
        ({"status": 503}, 503, 0),
        ({"status": 401}, 401, 0),
    ],
)
def test_the_next_call_fails_as_told(fake, fault, status, code):
    """Once, with the true bytes, and nothing is sent."""
    fake.fail_next(**fault)
    reply, body = call(fake, "/sms/send", to="0912345678", content="hi")
    assert (reply.status, body["code"]) == (status, code)
    assert not fake.messages
    assert send(fake)["code"] == "00"


def test_a_fault_after_acceptance_leaves_the_message(fake):
    """The answer is lost, not the message; the same key brings the answer back."""
    keyed = (*BASIC, (b"Idempotency-Key", b"k"))
    fake.fail_next(reset=True, accepted=True)
    with pytest.raises(ConnectionResetError):
        send(fake, headers=keyed)
    assert len(fake.messages) == 1
    assert send(fake, headers=keyed)["data"]["tranId"] == fake.messages.last.tran_id
    assert len(fake.messages) == 1


def test_a_fault_has_to_be_named(fake):
    """An empty order is a mistake of the test."""
    with pytest.raises(ValueError, match="a status, a code"):
        fake.fail_next()


def test_spend_caps_and_funds(fake):
    """What is too dear is refused whole, with its reason."""
    fake.account.spend_cap_minute_vnd = 300
    send(fake)
    reply, _ = call(fake, "/sms/send", to="0912345678", content="hi")
    assert dict(reply.headers)["X-Speedsms-Reason"] == "spend_cap"
    fake.advance(61)
    fake.account.balance_vnd = 100
    reply, _ = call(fake, "/sms/send", to="0912345678", content="hi")
    assert dict(reply.headers)["X-Speedsms-Reason"] == "balance"


def test_the_duplicate_guard_lets_calls_with_keys_pass(fake):
    """Only keyless sends of one text to the same numbers are one send (§15.2)."""
    fake.account.tokens[0].duplicate_window_s = 60
    keyed = [(*BASIC, (b"Idempotency-Key", key)) for key in (b"k1", b"k2")]
    texts = [("mot", keyed[0]), ("hai", keyed[1]), ("hai", BASIC), ("hai", BASIC), ("ba", BASIC)]
    tran_ids = [send(fake, content=text, headers=h)["data"]["tranId"] for text, h in texts]
    assert tran_ids == [1, 2, 3, 3, 4]


def test_a_refused_advertisement_does_not_count(fake):
    """Three a day reach a number (§12); those that nobody could pay for did not."""
    fake.account.senders.append(Sender(SenderKind.BRANDNAME, "SHOP", ad=True))
    ad = {"content": "[QC] Giam gia hom nay. Soan TC de tu choi", "sms_type": 1, "sender": "SHOP"}
    fake.account.balance_vnd = 0
    assert [send(fake, **ad)["code"] for _ in range(4)] == ["300"] * 4
    fake.account.balance_vnd = 1_000_000
    assert [send(fake, **ad)["code"] for _ in range(4)] == ["00", "00", "00", "105"]


def test_a_short_pin_can_be_opened_ten_times_a_day():
    """Four digits: 3 checks, and the eleventh verification of a phone waits for the first to be a day old."""
    account = Account(tokens=[Token(TOKEN)], apps=[Application("short", digits=4)])
    fake = FakeGateway([account], now=NOON)
    asked = {"to": "0912345678", "content": "{pin_code}", "app_id": "short"}
    for _ in range(10):
        assert call(fake, "/pin/create", **asked)[1]["status"] == "success"
        fake.advance(601)
    reply, _ = call(fake, "/pin/create", **asked)
    assert reply.status == 429
    assert int(dict(reply.headers)["Retry-After"]) == 86_400 - 10 * 601


def test_a_pin_is_sent_five_times():
    """The sixth send of one verification waits until it has expired; then another PIN begins."""
    fake = FakeGateway(now=NOON)
    asked = {"to": "0912345678", "content": "{pin_code}", "app_id": APP_ID}
    for _ in range(5):
        assert call(fake, "/pin/create", **asked)[1]["status"] == "success"
        fake.advance(30)
    reply, _ = call(fake, "/pin/create", **asked)
    assert dict(reply.headers)["Retry-After"] == str(600 - 5 * 30)
    fake.advance(450)
    assert call(fake, "/pin/create", **asked)[1]["status"] == "success"
    assert len({message.content for message in fake.messages[:5]}) == 1
    assert fake.messages[0].content != fake.messages[5].content


# ---------------------------------------------------------------- over HTTP


def test_a_program_needs_no_change(monkeypatch):
    """The environment leads the client here, and is as before afterwards."""
    monkeypatch.setenv("SPEEDSMS_TOKEN", "mine")
    with fake_gateway() as gateway:
        with SpeedSMS() as sms:
            sms.send("0912345678", "Ma: 493027", type=4, sender="Verify")
            sms.voice("0912345678", "0042")
            sms.create_pin("0987654321", "PIN {pin_code}", app_id=APP_ID)
            assert sms.verify_pin("0987654321", gateway.wait_otp("0987654321"), app_id=APP_ID)
        assert gateway.wait_otp("0912345678") == "0042"
        assert [m.kind for m in gateway.messages] == [Kind.SMS, Kind.VOICE, Kind.PIN]
        gateway.messages.assert_sent("0912345678", "493027", sender="Verify")
    with pytest.raises(Exception, match="SPEEDSMS_BASE_URL"):
        SpeedSMS()


@pytest.mark.anyio
async def test_asynchronous_programs_too():
    """Nothing of the fake runs on the event loop of the program."""
    with fake_gateway() as gateway:
        async with AsyncSpeedSMS() as sms:
            sent = await sms.send("0912345678", "Ma: 493027")
            gateway.settle()
            assert [one.progress for one in await sms.status(sent.tran_id)] == [Progress.DELIVERED]


def test_waiting_for_a_code_ends_with_its_arrival():
    """Another thread sends; each code is told once, and what came instead is listed."""
    with fake_gateway() as gateway:
        later = threading.Timer(0.05, lambda: SpeedSMS().send("0912345678", "Ma: 493027"))
        later.start()
        assert gateway.wait_otp("+84912345678", within_s=60) == "493027"
        with pytest.raises(AssertionError, match=r"no new code for 0912345678.*\n.*Ma: 493027"):
            gateway.wait_otp("0912345678", within_s=0)
        later.join()


def raw(gateway, *pieces: bytes) -> bytes:
    port = int(gateway.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"".join(pieces))
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while data := connection.recv(65536):
            found += data
    return found


AUTH = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
SEND = b"POST /sms/send HTTP/1.1\r\nHost: x\r\n" + AUTH
BODY = b'{"to":"0912345678","content":"hi"}'


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 33_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 2000 + b"\r\n", 431),
        ("GET /é HTTP/1.1\r\n\r\n".encode(), 400),
        (b"nonsense\r\n\r\n", 400),
        (SEND + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
        (SEND + b"Content-Length: x\r\n\r\n", 400),
        (SEND + b"no colon\r\n\r\n", 400),
        (SEND + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (SEND + b"Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n", 413),
    ],
)
def test_broken_and_too_large_requests(sms_gateway, request_, status):
    """The limits of §1.2 are the gateway's own."""
    assert raw(sms_gateway, request_).startswith(b"HTTP/1.1 %d " % status)


def test_what_clients_do_with_http(sms_gateway):
    """Pipelining, chunks, `Expect: 100-continue` and HEAD work on one connection (§1.1)."""
    chunked = b"Transfer-Encoding: chunked\r\n\r\n10\r\n" + BODY[:16] + b"\r\n%x\r\n" % len(BODY[16:])
    found = raw(
        sms_gateway,
        SEND + chunked + BODY[16:] + b"\r\n0\r\n\r\n",
        SEND + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
        b"HEAD /user/info HTTP/1.1\r\nHost: x\r\n" + AUTH + b"\r\n",
    )
    assert found.count(b"HTTP/1.1 200 OK") == 3
    assert found.count(b"HTTP/1.1 100 Continue") == 1
    assert found.count(b'"code":"00"') == 2
    assert found.endswith(b"\r\n\r\n")
    assert len(sms_gateway.messages) == 2


def test_faults_reach_the_client_as_faults(sms_gateway):
    """A cut connection is cut, silence is silent, and the next call is well."""
    connection = http.client.HTTPConnection(sms_gateway.url.removeprefix("http://"))
    sms_gateway.fail_next(reset=True)
    sms_gateway.fail_next(timeout=True)
    for fault, patience_s in ((ConnectionResetError, 60), (TimeoutError, 0.2)):
        connection.timeout = patience_s
        connection.request("GET", "/user/info", headers={"Authorization": f"Bearer {TOKEN}"})
        with pytest.raises(fault):
            connection.getresponse()
        connection.close()
    connection.timeout = 60
    connection.request("GET", "/user/info", headers={"Authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().status == 200
    connection.close()


def test_the_sandbox_greets_with_a_line_that_works():
    """`python -m speedsms.testing` prints URL, token and a call, and then each message."""
    program = [sys.executable, "-m", "speedsms.testing", "--port", "0", "--webhook", "http://127.0.0.1:1/"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as sandbox:
        greeting = "".join(iter(sandbox.stdout.readline, "  Messages:\n"))
        url, token = re.search(r"-u (\S+):x .* (http://[^/]+)/index.php/sms/send", greeting).group(2, 1)
        with SpeedSMS(token, url) as sms:
            sms.send("0912345678", "Xin chao")
        assert sandbox.stdout.readline() == "  0912345678 <- sms: 'Xin chao'\n"
        sandbox.terminate()
    assert "whsec_" in greeting


def test_incoming_of_strangers(fake, heard):
    """A phone that nobody wrote to can write first."""
    fake.reply("5656", "DNC", receiver="84901000008")
    assert heard[0][0] == json.loads(Incoming("5656", "84901000008", "DNC", "national").body)
