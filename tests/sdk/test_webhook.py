"""Receivers believe what the gateway signed, refuse everything else, and never fall over."""

import json
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Oracle
from standardwebhooks.webhooks import WebhookVerificationError

from speedsms import webhook
from speedsms.webhook import BadBody, BadSignature, Incoming, MissingSignature, Replayed, Report, Seen, TooOld
from speedsms.wire import Band

VECTORS = json.loads(
    (Path(__file__).parents[1] / "wire" / "vectors" / "webhooks.json").read_text(encoding="utf-8")
)["cases"]
POSTED = [case for case in VECTORS if case["expect"]["posts"]]
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
BODY = b'{"type":"report","tranId":1234,"phone":"0912345678","status":0}'
NOW = 1_796_612_400


def signed(body=BODY, secret=SECRET, event_id="evt_1", timestamp=NOW):
    return webhook.sign(body, secret, event_id, timestamp)


def parsed(body=BODY, headers=None, secret=SECRET, now=NOW, **more):
    return webhook.parse(body, signed(body) if headers is None else headers, secret, now=now, **more)


@pytest.mark.parametrize("case", POSTED, ids=lambda case: case["id"])
def test_vector(case):
    """Every webhook of the golden vectors is believed, and its event says what was told."""
    given, expect = case["given"], case["expect"]
    secrets, headers, told = given["endpoint"]["secrets"], expect["headers"], json.loads(expect["body"])
    event = webhook.parse(expect["body"].encode(), headers, secrets[-1], now=given["timestamp"])
    assert event.phone == told["phone"]
    assert event.event_id == given["webhook_id"]
    if told["type"] == "sms":
        assert event == Incoming(
            told["phone"], told["content"], given["webhook_id"], headers["x-speedsms-receiver"]
        )
    else:
        assert (event.tran_id, event.status, event.sequence) == (
            told["tranId"],
            told["status"],
            given["sequence"],
        )
        assert event.reference == given["message"]["reference"]
        assert event.delivered == (told["status"] == 0)
        assert event.final == (not 32 <= told["status"] < 64)


@pytest.mark.parametrize("case", POSTED, ids=lambda case: case["id"])
def test_signing_gives_the_headers_of_the_vector(case):
    """What `sign` makes for tests is what the gateway makes."""
    given, expect = case["given"], case["expect"]
    made = webhook.sign(
        expect["body"].encode(), given["endpoint"]["secrets"], given["webhook_id"], given["timestamp"]
    )
    assert {name.lower(): value for name, value in made.items()}.items() <= expect["headers"].items()


@given(st.binary(min_size=24, max_size=64), st.text(max_size=60), st.integers(-400, 400))
def test_the_stock_verifier_agrees(key, content, age_s):
    """A genuine webhook and one of a wrong time are judged as by the public library of Standard Webhooks."""
    import base64
    import time

    secret = "whsec_" + base64.b64encode(key).decode()
    body = json.dumps({"type": "sms", "phone": "84912345678", "content": content}).encode()
    headers = signed(body, secret, timestamp=int(time.time()) + age_s)
    # Near the edge each may read the clock on another side of it.
    if abs(abs(age_s) - 300) <= 20:
        return
    try:
        Oracle(secret).verify(body, headers)
    except WebhookVerificationError:
        with pytest.raises(TooOld):
            webhook.parse(body, headers, secret)
    else:
        assert webhook.parse(body, headers, secret).content == content


@given(st.data())
def test_one_flipped_bit_is_refused(data):
    """Wherever it is: in the body, the id, the time or the signature."""
    headers = signed()
    place = data.draw(st.sampled_from(["body", "webhook-id", "webhook-timestamp", "webhook-signature"]))
    octets = bytearray(BODY if place == "body" else headers[place].encode())
    bit = data.draw(st.integers(0, 8 * len(octets) - 1))
    octets[bit // 8] ^= 1 << bit % 8
    if place == "body":
        body = bytes(octets)
    else:
        body, headers[place] = BODY, octets.decode("latin-1")
    with pytest.raises(BadSignature):
        parsed(body, headers)


NAMES = st.sampled_from(["webhook-id", "Webhook-Timestamp", "WEBHOOK-SIGNATURE", "x-speedsms-sequence"])
VALUES = st.one_of(
    st.text(max_size=40), st.binary(max_size=40), st.sampled_from(list(signed().values())), st.just("v1,")
)


@given(
    st.binary(max_size=100), st.lists(st.tuples(NAMES | st.text(max_size=9) | st.binary(max_size=9), VALUES))
)
@example(b"", [("webhook-id", "evt_1"), ("webhook-timestamp", "٣" * 10), ("webhook-signature", "v1,x")])
@example(b"", [("webhook-id", "evt_1"), ("webhook-timestamp", "9" * 5000), ("webhook-signature", "v1,x")])
@example(b"", [("webhook-id", "evt_1"), ("webhook-timestamp", "1"), ("webhook-signature", "\ud800")])
def test_nothing_but_the_declared_errors(body, headers):
    """Whatever a stranger posts."""
    with pytest.raises(BadSignature):
        parsed(body, headers)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["report", "sms", "call"]) | JSON},
    optional=dict.fromkeys(("tranId", "phone", "status", "content"), JSON),
)


@given(EVENTS.map(json.dumps).map(str.encode) | st.binary(max_size=60))
@example(b"[" * 60_000)
@example(b'{"type":"report","tranId":' + b"9" * 5000 + b',"phone":"1","status":0}')
@example(b'{"type":"report","tranId":1,"phone":"1","status":true}')
@example(b'{"type":"report","tranId":1,"phone":"1","status":-1}')
@example(b'{"type":"report","tranId":1,"phone":"1","status":NaN}')
@example(b"\xff\xfe")
def test_genuine_bodies_are_read_or_refused(body):
    """A signed body is an event, or one of the declared errors; a status is a number from 0."""
    try:
        event = parsed(body)
    except (BadBody, webhook.UnknownEvent):
        return
    assert isinstance(event, Report | Incoming)
    if isinstance(event, Report):
        assert type(event.status) is int
        assert event.status >= 0
        assert event.band in Band
        assert event.meaning("en")
        assert event.meaning("vi")


def test_additive_changes_break_nobody():
    """Unknown keys are passed over; an unknown type is an error that says it is accepted."""
    told = {"type": "report", "tranId": 1, "phone": "0912345678", "status": 45, "price": 500}
    event = parsed(json.dumps(told).encode())
    assert (event.band, event.final, event.delivered) == (Band.TEMPORARY, False, False)
    with pytest.raises(webhook.UnknownEvent) as caught:
        parsed(b'{"type":"call","phone":"0912345678"}')
    assert caught.value.http_status == 204


@pytest.mark.parametrize("age_s", [-300, 0, 300])
def test_the_time_is_believed_within_five_minutes(age_s):
    """Either way: clocks differ."""
    assert parsed(now=NOW + age_s).delivered


@pytest.mark.parametrize("age_s", [-301, 301])
def test_another_time_is_not(age_s):
    """A webhook that somebody kept cannot be used later."""
    with pytest.raises(TooOld):
        parsed(now=NOW + age_s)
    assert parsed(now=NOW + age_s, tolerance_s=600).delivered


def test_old_and_new_secret_while_it_is_changed():
    """Several secrets here, several signatures there: one pair that fits is enough."""
    assert parsed(headers=signed(secret=[OTHER, SECRET])).delivered
    assert parsed(secret=[OTHER, SECRET]).delivered
    with pytest.raises(BadSignature):
        parsed(secret=OTHER)


def test_other_versions_of_signatures_are_passed_over():
    """A signature of a later scheme beside ours does no harm, and counts for nothing."""
    headers = signed()
    genuine = headers["webhook-signature"]
    assert parsed(headers=headers | {"webhook-signature": f"v2,abc {genuine}"}).delivered
    with pytest.raises(BadSignature):
        parsed(headers=headers | {"webhook-signature": genuine.replace("v1,", "v2,")})


@pytest.mark.parametrize(
    "shape",
    [
        lambda h: {name.upper(): value for name, value in h.items()},
        lambda h: list(h.items()),
        lambda h: [(name.lower().encode(), value.encode()) for name, value in h.items()],
        lambda h: iter({name.title(): value.encode() for name, value in h.items()}.items()),
    ],
    ids=["mapping", "pairs", "octets", "iterator"],
)
def test_headers_in_any_shape(shape):
    """Frameworks give mappings or pairs, of text or octets, in any case."""
    assert parsed(headers=shape(signed())).delivered


def test_headers_of_the_standard_library():
    """`self.headers` of http.server is neither a mapping nor pairs, and is taken too."""
    from email.message import Message

    headers = Message()
    for name, value in signed().items():
        headers[name] = value
    assert parsed(headers=headers).delivered


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_missing_header(name):
    """Each of the three is needed."""
    headers = signed()
    del headers[name]
    with pytest.raises(MissingSignature):
        parsed(headers=headers)


@pytest.mark.parametrize("secret", ["", "whsec_", [], [SECRET, ""], "vendor-secret", "whsec_AAECAwQF"])
def test_a_secret_that_is_none_is_a_mistake_of_the_receiver(secret):
    """An empty secret, such as from an unset variable, would let everybody sign."""
    with pytest.raises(ValueError, match="secret") as caught:
        parsed(secret=secret)
    assert not isinstance(caught.value, BadSignature)


def test_replayed():
    """Seen is asked last and only about genuine events; the second time it is Replayed."""
    seen = Seen()
    with pytest.raises(BadSignature):
        parsed(headers=signed(secret=OTHER), seen=seen)
    with pytest.raises(BadBody):
        parsed(b"{}", seen=seen)
    assert parsed(seen=seen).delivered
    with pytest.raises(Replayed) as caught:
        parsed(seen=seen)
    assert caught.value.http_status == 204


def test_seen_forgets_the_oldest_and_the_old():
    """Its memory is bounded in number and in time."""
    time = [0.0]
    seen = Seen(most=2, keep_s=10, clock=lambda: time[0])
    assert [seen(name) for name in "aabb"] == [False, True, False, True]
    assert not seen("c")
    assert ["a" in seen, "b" in seen, "c" in seen] == [False, True, True]
    time[0] = 10.0
    assert "b" not in seen
    assert [seen("b"), seen("b")] == [False, True]


def test_seen_from_threads():
    """Of threads that come with one event at once, one is the first."""
    seen, start, answers = Seen(), Barrier(8), []

    def come():
        start.wait()
        answers.extend((name, seen(name)) for name in map(str, range(200)))

    threads = [Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, before in answers if not before) == sorted(map(str, range(200)))


def test_unsigned():
    """The vendor's own webhooks are read by a function whose name says what is missing."""
    assert webhook.parse_unsigned(BODY) == Report(1234, "0912345678", 0)
    with pytest.raises(BadBody):
        webhook.parse_unsigned(b"tranId=1234")


def test_legacy_secret():
    """With `legacy_secret` the header of protocol §14.3 has to be there, and equal."""
    headers = {"X-SpeedSMS-Secret": "vendor-secret"}
    assert webhook.parse_unsigned(BODY, headers, legacy_secret="vendor-secret").delivered
    for wrong in ({}, {"X-SpeedSMS-Secret": "vendor-secreT"}, {"X-SpeedSMS-Secret": "é"}):
        with pytest.raises(BadSignature):
            webhook.parse_unsigned(BODY, wrong, legacy_secret="vendor-secret")
    with pytest.raises(ValueError, match="empty"):
        webhook.parse_unsigned(BODY, {}, legacy_secret="")


@pytest.mark.parametrize(
    ("status", "band"),
    [(s, Band.DELIVERED) for s in (0, 1, 31)]
    + [(s, Band.TEMPORARY) for s in (32, 33, 34, 37, 63)]
    + [(s, Band.FAILED) for s in (64, 65, 67, 69, 70, 71, 72, 96, 97, 98, 99, 127, 200)],
)
def test_bands(status, band):
    """The bands of protocol §14.1; a value nobody knows is what its band is."""
    report = Report(1, "0912345678", status)
    assert report.band is band
    assert report.final == (band is not Band.TEMPORARY)


def test_every_status_has_words_in_both_languages():
    """The values of protocol §14.1, no fewer and no more, each in words of its own."""
    values = {0, 32, 33, 34, 37, 64, 65, 67, 69, 70, 71, 72, 96, 97, 98, 99}
    assert set(webhook.MEANINGS) == values
    for language in ("en", "vi"):
        assert len({Report(1, "", status).meaning(language) for status in values}) == len(values)
    assert Report(1, "", 68).meaning() == Report(1, "", 64).meaning()
    assert Report(1, "", 50).meaning("vi").endswith("vẫn đang gửi lại")


def test_it_costs_nothing_to_import():
    """Receivers that only verify need neither the HTTP client nor an event loop."""
    script = "import sys, speedsms.webhook; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"asyncio", "httpx2", "django", "flask", "starlette", "celery"}
