"""Both clients over real sockets: what goes out, what comes back, what a broken network turns into."""

import asyncio
import logging
import pickle
import socket
import ssl
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime

import pytest

import speedsms
from speedsms import (
    AsyncSpeedSMS,
    ConfigurationError,
    InvalidNumber,
    InvalidRequest,
    KeyConflict,
    NotSendable,
    Number,
    OutcomeUnknown,
    Progress,
    RateLimited,
    Reason,
    Rejected,
    SenderNotFound,
    SpeedSMS,
    Unauthorized,
    Unavailable,
)
from speedsms.errors import SpeedSMSError

PHONE = "0912345678"


def test_a_send_as_documented(ask, service, kit):
    """POST, JSON in ASCII, Basic token:x, a key, the documented names; the reply typed (experience §3.2)."""
    data = {"tranId": 123456, "totalSMS": 1, "totalPrice": 500, "invalidPhone": ["12"]}
    extra = {"X_Speedsms_Parts": "2", "X_Speedsms_Notice": "nfc, duplicates=1", "X_Request_Id": "r1"}
    service.script.append(kit.success(data, **extra))
    sent = ask("send", [PHONE, "12"], "Mã: 1", type=3, sender="SHOP", reference="r", validity_s=60)
    (seen,) = service.seen
    assert (seen.method, seen.path) == ("POST", "/index.php/sms/send")
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["authorization"] == "Basic c3NfdGVzdF80Y2FuYXJ5NENhbmFyeTRjYW5hcnk0Q2FuYXJ5NDp4"
    assert seen.body.isascii()
    assert seen.json == {
        "to": [PHONE, "12"],
        "content": "Mã: 1",
        "sms_type": 3,
        "sender": "SHOP",
        "validity_s": 60,
        "reference": "r",
    }
    assert (sent.tran_id, sent.total_sms, sent.total_vnd, sent.parts) == (123456, 1, 500, 2)
    assert (sent.invalid_phones, sent.notices) == (("12",), ("nfc", "duplicates=1"))
    assert (sent.key, sent.replayed) == (seen.key, False)
    assert (sent.raw.status, sent.raw.json["data"]) == (200, data)


def test_the_other_calls_as_documented(ask, service, kit):
    """Voice, PIN, MMS, account and status: path, names and reply of protocol §5."""
    service.script += [
        kit.success({"email": "a@b.c", "balance": 100000, "currency": "VND"}),
        kit.success({"tranId": 1, "totalPrice": 400, "invalidPhone": []}),
        kit.success({"tranId": 2, "totalPrice": 350, "pin_code": "0123"}),
        kit.success({"pin": "0123", "phone": PHONE, "verified": True, "remainingAttempts": 4}),
        kit.success([{"phone": PHONE, "status": 2}, {"phone": "1", "status": 9}]),
        kit.success(),
    ]
    account = ask("account")
    assert (account.email, account.balance_vnd, account.currency) == ("a@b.c", 100000, "VND")
    call = ask("voice", Number("84912345678"), "0123")
    assert (call.tran_id, call.total_sms, call.total_vnd) == (1, 1, 400)
    pin = ask("create_pin", PHONE, "Ma: {pin_code}", app_id="app")
    assert (pin.tran_id, pin.price_vnd, pin.pin_code) == (2, 350, "0123")
    assert "0123" not in repr(pin)
    check = ask("verify_pin", PHONE, "0123", app_id="app")
    assert check
    assert check.remaining_attempts == 4
    delivered, strange = ask("status", 7)
    assert delivered.progress is Progress.DELIVERED
    assert (strange.progress, strange.final) == (9, False)
    ask("send_mms", PHONE, "hi", "https://a.example/b.png", sender="device")
    assert [(seen.method, seen.path) for seen in service.seen] == [
        ("GET", "/index.php/user/info"),
        ("POST", "/index.php/voice/otp"),
        ("POST", "/index.php/pin/create"),
        ("POST", "/index.php/pin/verify"),
        ("GET", "/index.php/sms/status/7"),
        ("POST", "/index.php/mms/send"),
    ]
    assert service.seen[1].json == {"to": ["84912345678"], "content": "0123"}
    assert service.seen[2].json == {"to": PHONE, "content": "Ma: {pin_code}", "app_id": "app"}
    assert service.seen[3].json == {"phone": PHONE, "pin_code": "0123", "app_id": "app"}
    assert [bool(seen.key) for seen in service.seen] == [False, True, True, False, False, True]


@pytest.mark.parametrize("strict", [False, True])
def test_a_wrong_pin_is_false(ask, service, kit, strict):
    """The wire calls it a success, or an error with `strict_verify`; here it is an answer (protocol §5.5)."""
    data = b'{"pin":"1","phone":"1","verified":false,"remainingAttempts":3}'
    plain = b'{"status":"success","data":' + data + b"}"
    error = b'{"status":"error","code":"101","message":"Pin code invalid","data":' + data + b"}"
    service.script.append(kit.answer(200, error if strict else plain))
    check = ask("verify_pin", PHONE, "1111", app_id="app")
    assert not check
    assert check.remaining_attempts == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("007", speedsms.IpLocked),
        ("008", speedsms.AccountBlocked),
        ("009", speedsms.NotAllowed),
        ("101", InvalidRequest),
        ("105", InvalidNumber),
        ("110", NotSendable),
        ("113", speedsms.TooLong),
        ("300", speedsms.InsufficientBalance),
        ("500", Unavailable),
        ("777", Rejected),
    ],
)
def test_each_code_has_its_class(kit, service, code, kind):
    """With code, reason, hint, link, request id and the raw reply (experience §3.2, §11)."""
    service.script.append(kit.refusal(code, "no", invalid=["12"], X_Speedsms_Reason="odd", X_Request_Id="r9"))
    with kit.sync(retries=0) as sms, pytest.raises(kind) as caught:
        sms.send(PHONE, "hi", key="order-42")
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.reason, error.message, error.request_id) == (code, "odd", "no", "r9")
    assert (error.invalid_phones, error.key, error.status) == (("12",), "order-42", 200)
    assert error.raw.json["code"] == code
    assert bool(error.hint) == (code not in ("101", "777"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy), copy.key) == (kind, code, str(error), "order-42")


def test_hints_in_two_languages(kit, service):
    """The catalogue's words, in the language of the client."""
    for language, word in (("en", "Top up"), ("vi", "Nạp tiền")):
        service.script.append(kit.refusal("300", X_Speedsms_Reason="balance"))
        with kit.sync(language=language) as sms, pytest.raises(speedsms.InsufficientBalance) as caught:
            sms.send(PHONE, "hi")
        assert caught.value.reason is Reason.BALANCE
        assert word in caught.value.hint
        assert word in str(caught.value)
        assert caught.value.doc_url.endswith("#balance")


def test_sender_not_found_with_and_without_a_code(kit, service):
    """The vendor's service sends no code with it (protocol D27)."""
    service.script.append(kit.refusal("101", "sender not found", X_Speedsms_Reason="sender_not_found"))
    service.script.append(kit.answer(200, b'{"status":"error","message":"sender not found"}'))
    with kit.sync() as sms:
        for _ in range(2):
            with pytest.raises(SenderNotFound) as caught:
                sms.send(PHONE, "hi", type=4)
            assert caught.value.reason is Reason.SENDER_NOT_FOUND


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (404, InvalidRequest),
        (409, KeyConflict),
        (422, KeyConflict),
        (429, RateLimited),
        (307, InvalidRequest),
        (303, OutcomeUnknown),
        (500, OutcomeUnknown),
        (503, OutcomeUnknown),
    ],
)
def test_each_http_status_has_its_class(ask, service, kit, status, kind):
    """Framework bodies carry numbers where business refusals carry strings (protocol §1.4)."""
    body = b'{"name":"N","message":"M","code":0,"status":%d}' % status
    service.script.append(kit.answer(status, body, Location="http://127.0.0.1:1/", Retry_After="9"))
    with pytest.raises(kind) as caught:
        ask("send", PHONE, "hi", client={"retries": 0})
    assert caught.value.status == status
    assert caught.value.code is None
    assert len(service.seen) == 1


def test_a_reply_of_no_gateway_is_no_outcome(ask, service, kit):
    """A proxy's page, garbage, a cut or an endless body: it may have been sent."""
    page = kit.answer(200, b"<html>Welcome to the hotel</html>")
    cut = kit.success(Connection="close").replace(b"Content-Length: ", b"Content-Length: 9")
    endless = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[b"100000\r\n" + b" " * 2**20 + b"\r\n"] * 6,
    ]
    bare = [kit.answer(200, b'{"status":"success","data":%s}' % data) for data in (b"null", b"[]", b'"1"')]
    for script in (page, cut, b"\x00\xff garbage\r\n\r\n", endless, *bare):
        service.script.append(script)
        with pytest.raises(OutcomeUnknown):
            ask("send", PHONE, "hi", client={"retries": 0, "timeout_s": 5.0})


@pytest.mark.parametrize("how", ["RESET_BEFORE", "RESET_AFTER", "CLOSE"])
def test_a_broken_connection_is_repeated_with_the_same_key(ask, service, kit, how):
    """Where keys are honoured the caller sees the one result."""
    service.script.append(getattr(kit.break_, how))
    sent = ask("send", PHONE, "hi", client={"honours_keys": True})
    assert sent.tran_id == 7
    assert {seen.key for seen in service.seen} == {sent.key}
    assert len({seen.body for seen in service.seen}) == 1


@pytest.mark.parametrize("how", ["RESET_AFTER", "CLOSE"])
def test_a_broken_connection_is_unknown_where_keys_are_not_known(ask, service, kit, how):
    """The vendor's service would send it again."""
    service.script.append(getattr(kit.break_, how))
    with pytest.raises(OutcomeUnknown) as caught:
        ask("send", PHONE, "hi", key="order-42")
    assert caught.value.key == "order-42"
    assert len(service.seen) == 1


def test_a_connection_reset_at_once_sends_at_most_once(ask, service, kit):
    """Whether it counts as no connection or as a lost reply is a race; nothing is sent twice."""
    service.script.append(kit.break_.RESET_BEFORE)
    with suppress(OutcomeUnknown):
        ask("send", PHONE, "hi")
    assert len(service.seen) <= 1


def test_keys_count_once_the_service_has_said_so(kit, service):
    """`X-Speedsms-Contract` on an earlier reply of this base URL is enough."""
    with kit.sync() as sms:
        sms.send(PHONE, "first")
        service.script.append(kit.break_.RESET_AFTER)
        sms.send(PHONE, "second")
    keys = [seen.key for seen in service.seen]
    assert keys[0] != keys[1] == keys[2]


def test_nobody_listens(ask, kit):
    """A refused connection is certain: nothing was sent."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # without listening, and so that nobody else does
        kit.service = type("Closed", (), {"url": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        with pytest.raises(Unavailable) as caught:
            ask("send", PHONE, "hi", client={"retries": 1})
    assert caught.value.retryable


def test_total_time(ask, service, kit):
    """A service that is silent, or talks byte by byte, costs the time of the call and no more."""
    drip = [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", *[0.05, b" "] * 400]
    for script in (kit.break_.HANG, drip):
        service.script.append(script)
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            ask("send", PHONE, "hi", timeout_s=1.0, client={"honours_keys": True})
        assert time.monotonic() - began < 10  # the service would go on for 20 s and more


def test_a_repeat_after_the_service_said_when(ask, service, kit):
    """HTTP 429 with Retry-After: 1, then it works."""
    service.script.append(kit.answer(429, b"{}", Retry_After="1"))
    began = time.monotonic()
    assert ask("send", PHONE, "hi").tran_id == 7
    assert time.monotonic() - began >= 1
    assert len({seen.key for seen in service.seen}) == 1


def test_redirects_are_not_followed(ask, service, kit):
    """They would carry the token to whoever answers."""
    service.script.append(kit.answer(301, Location=service.url + "/index.php/sms/send"))
    with pytest.raises(InvalidRequest, match="Redirected"):
        ask("send", PHONE, "hi")
    assert len(service.seen) == 1


def test_the_environment_cannot_redirect_the_token(ask, monkeypatch):
    """Neither proxies nor .netrc of the environment are looked at."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask("send", PHONE, "hi").tran_id == 7


def test_connections_are_used_again(kit, service):
    """One client, one connection; a closed one is replaced without an error."""
    with kit.sync() as sms:
        for _ in range(5):
            sms.send(PHONE, "hi")
        assert service.connections == 1
        service.script.append(kit.success(Connection="close"))
        sms.send(PHONE, "hi")
        sms.send(PHONE, "hi")
    assert service.connections == 2


FORKED = """
import os, sys
from speedsms import SpeedSMS
sms = SpeedSMS(*sys.argv[1:])
sms.send("0912345678", "parent")
if (child := os.fork()) == 0:
    sms.send("0912345678", "child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
sms.send("0912345678", "parent")
"""


def test_a_forked_worker_has_connections_of_its_own(kit, service):
    """Parent and child on one socket would read each other's replies."""
    subprocess.run([sys.executable, "-c", FORKED, kit.token, service.url], check=True, timeout=100)
    assert [seen.json["content"] for seen in service.seen] == ["parent", "child", "parent"]
    assert service.connections == 2


def test_cancelling_ends_a_call_at_once(kit, service):
    """The connection is closed, no task stays, and the client goes on working."""

    async def main():
        async with kit.asynchronous() as sms:
            service.script.append(kit.break_.HANG)
            task = asyncio.create_task(sms.send(PHONE, "hi"))
            await asyncio.to_thread(service.arrived.acquire)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert (await sms.send(PHONE, "hi")).tran_id == 7

    asyncio.run(main())


def test_what_a_recipient_may_be(ask, service):
    """Strings stay as spelt; ints, Numbers and other libraries' numbers become digits."""
    other = type("PhoneNumber", (), {"as_e164": "+84912345678"})()
    ask("send", ["091 234-5678", 84912345678, Number("84987654321"), other], "hi")
    assert service.seen[0].json["to"] == ["091 234-5678", "84912345678", "84987654321", "+84912345678"]
    ask("send", 84912345678, "hi", send_at=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert service.seen[1].json["to"] == ["84912345678"]
    assert service.seen[1].json["send_at"] == "2030-01-02T03:04:05+00:00"


@pytest.mark.parametrize(
    ("kind", "to", "content", "options"),
    [
        (TypeError, None, "hi", {}),
        (TypeError, [True], "hi", {}),
        (TypeError, PHONE, 493027, {}),
        (TypeError, PHONE, b"hi", {}),
        (TypeError, PHONE, "hi", {"send_at": datetime(2030, 1, 1)}),  # noqa: DTZ001  what is refused
        (InvalidRequest, [], "hi", {}),
        (InvalidRequest, [PHONE] * 101, "hi", {}),
        (InvalidRequest, PHONE, "hi", {"key": "a b"}),
        (InvalidNumber, ["0912345678,0987654321"], "50%25", {}),
    ],
)
def test_what_is_refused_before_it_leaves(kit, kind, to, content, options):
    """A mistake that no service can know better."""
    with kit.sync() as sms, pytest.raises(kind):
        sms.send(to, content, **options)
    assert kit.service.seen == []


def test_a_text_that_looks_percent_encoded_travels_as_a_form(ask, service):
    """From JSON the gateway would decode it (protocol §4.5)."""
    ask("send", [PHONE, "0987654321"], "50%25")
    assert service.seen[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert service.seen[0].form["content"] == ["50%25"]
    assert service.seen[0].form["to"] == [PHONE, "0987654321"]


def test_the_hook_sees_every_exchange_and_no_secret(ask, service, kit):
    """Method, path, status, attempt, seconds: nothing to redact."""
    seen = []
    service.script.append(kit.break_.RESET_AFTER)
    ask("send", PHONE, "secret text", client={"honours_keys": True, "on_exchange": seen.append})
    assert [(e.method, e.path, e.attempt, e.status) for e in seen] == [
        ("POST", "/index.php/sms/send", 1, None),
        ("POST", "/index.php/sms/send", 2, 200),
    ]
    assert seen[0].failure
    assert all(e.elapsed_s > 0 for e in seen)
    assert not [secret for secret in (kit.token, PHONE, "secret text") if secret in repr(seen)]


def _locals(error):
    """What error reporters send: the locals of all frames that are not this test's."""
    frames = [
        frame
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if "tests" not in frame.f_code.co_filename
    ]
    return "".join(repr(value) for frame in frames for value in frame.f_locals.values())


def test_the_token_is_nowhere(ask, service, kit, caplog):
    """Not in repr, raw, logs at DEBUG, hooks or tracebacks with locals, even if the service echoes it."""
    caplog.set_level(logging.DEBUG)
    shown = []
    echo = f'{{"status":"error","code":"101","message":"{kit.token}"}}'.encode()
    hook = {"retries": 0, "on_exchange": lambda exchange: shown.append(repr(exchange))}
    scripts = [
        kit.answer(200, echo),
        kit.answer(200, b"<p>Basic c3NfdGVzdF80Y2FuYXJ5NENhbmFyeTRjYW5hcnk0Q2FuYXJ5NDp4</p>" + echo),
        kit.break_.RESET_AFTER,
        kit.answer(401, b"{}"),
        kit.success({"email": kit.token, "balance": 1, "currency": "VND"}),
    ]
    for script in scripts:
        service.script.append(script)
        try:
            result = ask("account", client=hook)
        except SpeedSMSError as error:
            raw = error.raw
            shown += [
                _locals(error),
                "".join(traceback.format_exception(error)),
                str(error),
                repr(error),
                repr(vars(error)),
            ]
        else:
            raw = result.raw
            shown.append(repr(result).replace("email='***'", ""))
        shown += [raw.body.decode(), repr(raw.headers)] if raw else []
    shown += [repr(kit.sync()), repr(speedsms.compat.SpeedSMSAPI(kit.token, service.url)), caplog.text]
    text = "".join(shown)
    assert len(text) > 1000
    assert kit.token not in text
    assert "c3NfdGVzdF80Y2FuYXJ5" not in text


def test_certificates_are_verified(kit, tmp_path):
    """A certificate nobody vouches for is a matter of settings; with `ca_file` the service is trusted."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("openssl is not installed")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    kit.service.encrypt(context)
    url = kit.service.url.replace("http:", "https:")
    with SpeedSMS(kit.token, url, retries=0) as sms, pytest.raises(ConfigurationError, match="ca_file"):
        sms.send(PHONE, "hi")
    with SpeedSMS(kit.token, url, ca_file=certificate) as sms:
        assert sms.send(PHONE, "hi").tran_id == 7


def test_both_clients_have_the_same_methods():
    """Same names, same arguments, same order."""
    import inspect

    def shape(client):
        public = {name: member for name, member in vars(client).items() if not name.startswith("_")}
        return {name: [*inspect.signature(member).parameters.values()] for name, member in public.items()}

    both = shape(SpeedSMS), shape(AsyncSpeedSMS)
    assert both[0].pop("close") == both[1].pop("aclose")
    assert both[0] == both[1]


def test_everything_public_is_explained():
    """Docstrings on all public names of the SDK (experience U6)."""
    import inspect

    silent = []
    for name in speedsms.__all__:
        thing = getattr(speedsms, name)
        silent += [name] * (not inspect.getdoc(thing))
        members = (
            vars(thing).items() if inspect.isclass(thing) and thing.__module__.startswith("speedsms") else ()
        )
        for label, member in members:
            shown = isinstance(member, property) or inspect.isfunction(member)
            if shown and not label.startswith("_") and not inspect.getdoc(member):
                silent.append(f"{name}.{label}")
    assert silent == []
