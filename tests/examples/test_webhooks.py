"""The receivers of every language: who is let in, and what they say."""

import json
import subprocess
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from programs import EXAMPLES, LANGUAGES, LIMIT_S, RECEIVERS, Programs, Receiver, build, environment, needed
from standardwebhooks import Webhook

pytestmark = pytest.mark.slow

OLD, SECRET, FOREIGN = (f"whsec_{letter * 43}=" for letter in "ABC")
REPORT = '{"type":"report","tranId":1234,"phone":"0912345678","status":0}'
EVENT = "evt_FORSVZXSNZALDNXLPJFX5MSNPM"


def _signed(body=REPORT, secret=SECRET, age_s=0, event=EVENT):
    """The headers of a webhook, by the library of Standard Webhooks."""
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    return {
        "Content-Type": "application/json; charset=UTF-8",
        "webhook-id": event,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(event, at, body),
    }


def _post(url, headers, body=REPORT, method="POST"):
    """The HTTP status; 0 if the connection was closed on a body that is too long."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)
    try:
        connection.request(method, "/", body.encode(), headers)
        return connection.getresponse().status
    except (ConnectionResetError, BrokenPipeError):
        return 0
    finally:
        connection.close()


@pytest.fixture(params=RECEIVERS)
def receiver(request, built):
    """Each language's receiver, which knows two secrets."""
    needed(request.param)
    with Receiver(request.param, build(request.param, built), f"{OLD} {SECRET}") as listening:
        yield listening


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (REPORT, "report EVENT: tranId 1234 to 0912345678: delivered (0)"),
        (REPORT.replace("0}", "34}"), "report EVENT: tranId 1234 to 0912345678: still trying (34)"),
        (REPORT.replace("0}", "69}"), "report EVENT: tranId 1234 to 0912345678: failed (69)"),
        (
            '{"type":"sms","phone":"0912345678","content":"C\\u00f3, t\\u1ed1t"}',
            "incoming EVENT: 0912345678: *Có, tốt*",
        ),
    ],
    ids=["delivered", "temporary", "failed", "incoming"],
)
def test_genuine(receiver, body, said):
    """A report and an incoming message are printed, and answered with 204."""
    assert _post(receiver.url, _signed(body), body) == 204
    line = receiver.line("report ", "incoming ")
    assert line.replace('"', "*").replace("'", "*") == said.replace("EVENT", EVENT)


def test_forged(receiver):
    """Wrong, old, changed, bare: each is refused and nothing of it is printed. Any fitting pair is enough."""
    true, old = _signed(), _signed(age_s=400)
    forged = {
        "wrong secret": _signed(secret=FOREIGN),
        "old": old,
        "future": _signed(age_s=-400),
        "old, with a new time": old | {"webhook-timestamp": str(int(time.time()))},
        "other id": true | {"webhook-id": "evt_OTHER"},
        "time is no number": true | {"webhook-timestamp": "NaN"},
        "no time": true | {"webhook-timestamp": ""},
        "no signature": true | {"webhook-signature": ""},
        "a piece of it": true | {"webhook-signature": true["webhook-signature"][:20]},
        "more than it": true | {"webhook-signature": true["webhook-signature"] + "A"},
        "other version": true | {"webhook-signature": true["webhook-signature"].replace("v1,", "v2,")},
        "no headers": {},
    }
    refused = {why: _post(receiver.url, headers) for why, headers in forged.items()}
    refused["changed body"] = _post(receiver.url, true, REPORT.replace("0}", "1}"))
    assert {why: status for why, status in refused.items() if status != 401} == {}
    assert _post(receiver.url, true, method="PUT") in {405, 501}
    long = json.dumps({"type": "sms", "phone": "0912345678", "content": "x" * 70_000})
    assert _post(receiver.url, _signed(long), long) in {413, 0}

    both = true | {"webhook-signature": f"v1,{'A' * 43}= {true['webhook-signature']}"}
    assert _post(receiver.url, both) == 204
    last = REPORT.replace("1234", "5")
    assert _post(receiver.url, _signed(last, secret=OLD), last) == 204
    assert "tranId 1234" in receiver.line("report ", "incoming ")
    assert "tranId 5" in receiver.line("report ", "incoming ")


def test_a_text_forges_no_line(receiver):
    """A stranger's line break stays inside the quotes."""
    body = json.dumps({"type": "sms", "phone": "0912345678", "content": "A\r\nreport evt_X: forged\x1b[2J"})
    assert _post(receiver.url, _signed(body), body) == 204
    line = receiver.line("report ", "incoming ")
    assert "forged" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("secrets", ["", "whsec_", "whsec_QUJD"])
@pytest.mark.parametrize("name", RECEIVERS)
def test_no_secret_lets_nobody_in(name, secrets, built):
    """An empty key is no key: the receiver does not start, or answers nothing with success."""
    needed(name)
    build(name, built)
    if name == "php":
        with Receiver(name, built, secrets) as receiver:
            assert _post(receiver.url, _signed()) == 500
        return
    command = LANGUAGES[name].command("webhook", built)
    variables = environment(WEBHOOK_SECRET=secrets)
    done = subprocess.run([*command, "9"], env=variables, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode != 0
    assert b"listening" not in done.stdout


def test_curl_signs_as_the_gateway(built):
    """The sample that curl posts is taken by a receiver; one with another secret is not."""
    command = ["bash", f"{EXAMPLES}/curl/webhook.sh"]
    with Receiver("python-stdlib", built, SECRET) as receiver:
        for secret, status in ((SECRET, "204"), (FOREIGN, "401")):
            variables = environment(WEBHOOK_SECRET=secret)
            status_line = subprocess.check_output([*command, receiver.url], env=variables, text=True)
            assert status_line.strip() == status
        assert "tranId 1234 to 0912345678: delivered" in receiver.line("report ")


def test_what_the_gateway_posts(built, gateway):
    """A report and an answer of the phone, signed by the gateway, reach the receivers of all languages."""
    for name in RECEIVERS:
        needed(name)
        build(name, built)
    phone = "0912345678"
    with ExitStack() as stack:
        # A secret is told when its endpoint is made, which wants the address: that is chosen first.
        receivers = [Receiver(name, built, "") for name in RECEIVERS]
        lines = [
            f"webhook set demo {event} {receiver.url} --json"
            for receiver in receivers
            for event in ("report", "sms")
        ]
        secrets = [data["secret"] for data in gateway.commands(*lines)]
        for place, receiver in enumerate(receivers):
            receiver.secrets(" ".join(secrets[2 * place : 2 * place + 2]))
            stack.enter_context(receiver)
        assert Programs("python-stdlib", built, gateway.url, gateway.token).send("Xin chào", phone).code == 0
        for receiver in receivers:
            assert f"to {phone}: delivered (0)" in receiver.line("report ")
        reply = Request(f"{gateway.url}/sim/api/phones/{phone}/reply", b'{"content":"C\\u00f3"}')
        urlopen(reply, timeout=LIMIT_S).close()
        for receiver in receivers:
            assert "Có" in receiver.line("incoming ")
