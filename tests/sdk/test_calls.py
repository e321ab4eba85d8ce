"""The rules of a call without a wire: when it is repeated, with what, and how it ends."""

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms import _calls
from speedsms._calls import Peer, Send, Wait
from speedsms._replies import Failure, Judge, Response
from speedsms._retry import SETTLING, delay_s
from speedsms.contract.declined import Declined
from speedsms.contract.read import send as read_send
from speedsms.errors import (
    NotYetFinal,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    SpeedSMSError,
    Unauthorized,
    Unavailable,
)
from speedsms.results import PinCheck, Sent

ACCEPTED = {"status": "success", "code": "00", "data": {"tranId": 1, "totalSMS": 1, "totalPrice": 250}}
LOST = Failure("lost", sent=True, elapsed_s=0.1)
REFUSED_CONNECTION = Failure("refused", sent=False, elapsed_s=0.1)


def reply(status=200, body=None, **headers):
    text = b"<html>" if body is None else json.dumps(body).encode()
    return Response(status, {k.replace("_", "-"): v for k, v in headers.items()}, text, 0.1)


def refused(code, **headers):
    return reply(200, {"status": "error", "code": code, "message": "no"}, **headers)


def peer(*, honours_keys=True, retries=2, timeout_s=30.0):
    judge = Judge("token", "en", honours_keys=honours_keys)
    return Peer("http://h", "/index.php/", judge, retries, timeout_s, chance=lambda: 1.0)


def drive(call, answers):
    """(how it ended, what was sent, how long it waited); an endless script repeats its last answer."""
    sent, waited, todo, answer = [], [], list(answers), None
    while True:
        try:
            step = call.send(answer)
        except StopIteration as done:
            return done.value, sent, waited
        except SpeedSMSError as error:
            return error, sent, waited
        if isinstance(step, Wait):
            waited.append(step.delay_s)
            answer = None
        else:
            sent.append(step)
            answer = todo.pop(0) if len(todo) > 1 else todo[0]


def send(honours_keys, answers, **options):
    return drive(_calls.send(peer(honours_keys=honours_keys, **options), "0912345678", "hi"), answers)


SAFE_ALWAYS = {
    "429": reply(429, {"status": 429}),
    "code 500": refused("500"),
    "connection refused": REFUSED_CONNECTION,
    "409": reply(409, {"status": 409}),
}
SAFE_WITH_KEYS = {
    "reset or time-out": LOST,
    "HTTP 500": reply(500, {"status": 500}),
    "HTTP 502": reply(502),
    "HTTP 503": reply(503),
    "HTTP 504": reply(504),
    "no JSON": reply(200),
    "JSON of another shape": reply(200, {"status": "success", "data": {}}),
    "a list": reply(200, []),
}
NEVER = {code: refused(code) for code in ("007", "008", "009", "101", "105", "110", "113", "300", "999")} | {
    f"HTTP {status}": reply(status, {"status": status})
    for status in (301, 400, 401, 403, 404, 405, 413, 415, 422)
}


@pytest.mark.parametrize("name", SAFE_ALWAYS)
@pytest.mark.parametrize("honours_keys", [True, False, None])
def test_what_was_certainly_not_sent_is_sent_again(name, honours_keys):
    """429, code 500, 409 and no connection: two repeats with one key and one body, then the refusal."""
    ended, sent, waited = send(honours_keys, [SAFE_ALWAYS[name]])
    assert isinstance(ended, Rejected)
    assert ended.retryable
    assert len(sent) == 3
    assert len({(step.request.key, step.request.body) for step in sent}) == 1
    assert waited == [0.5, 1.0]


@pytest.mark.parametrize("name", SAFE_WITH_KEYS)
@pytest.mark.parametrize("honours_keys", [True, False, None])
def test_what_may_have_been_sent_is_sent_again_only_with_a_key_that_counts(name, honours_keys):
    """A lost reply: repeats where keys are honoured, else the first one is the last (experience §3.2)."""
    ended, sent, _ = send(honours_keys, [SAFE_WITH_KEYS[name]])
    assert isinstance(ended, OutcomeUnknown)
    assert len(sent) == (3 if honours_keys else 1)
    assert ended.key == sent[0].request.key
    assert ended.retryable == bool(honours_keys)
    assert (ended.key in ended.hint) == bool(honours_keys)


@pytest.mark.parametrize("name", NEVER)
def test_other_refusals_are_final(name):
    """Never repeated, whatever the code (experience §3.2)."""
    ended, sent, _ = send(True, [NEVER[name]])
    assert isinstance(ended, Rejected)
    assert not ended.retryable
    assert len(sent) == 1


@pytest.mark.parametrize("name", [*SAFE_ALWAYS, *SAFE_WITH_KEYS])
def test_reading_is_repeated_always(name):
    """Nothing can be sent twice by asking for the balance."""
    answers = {**SAFE_ALWAYS, **SAFE_WITH_KEYS}
    ended, sent, _ = drive(_calls.account(peer(honours_keys=False)), [answers[name]])
    assert isinstance(ended, Rejected)
    assert len(sent) == 3


def test_a_check_is_never_repeated_once_it_may_have_counted():
    """Each costs one of few attempts and a right PIN counts once, so the caller judges."""
    ended, sent, _ = drive(_calls.verify_pin(peer(), "0912345678", "1234", app_id="a"), [LOST])
    assert isinstance(ended, OutcomeUnknown)
    assert not ended.retryable
    assert len(sent) == 1


def test_the_contract_is_learnt_from_the_reply_that_is_in_doubt():
    """HTTP 500 of our own gateway says by its header that the key may be repeated."""
    ended, sent, _ = send(None, [reply(500, {"status": 500}, x_speedsms_contract="1"), reply(200, ACCEPTED)])
    assert isinstance(ended, Sent)
    assert len(sent) == 2


def test_a_caller_who_says_that_keys_do_not_count_is_believed():
    """`honours_keys=False` is not overruled by a header."""
    ended, sent, _ = send(False, [reply(500, {"status": 500}, x_speedsms_contract="1")])
    assert isinstance(ended, OutcomeUnknown)
    assert len(sent) == 1


def test_the_service_says_when():
    """Retry-After, else X-Rate-Limit-Reset of a 429, is waited for; a date or rubbish is not read."""
    told = reply(429, {}, retry_after="3")
    reset = reply(429, {}, x_rate_limit_reset="4")
    rubbish = reply(429, {}, retry_after="Wed, 21 Oct 2026 07:28:00 GMT")
    _, _, waited = send(True, [told, reset, reply(200, ACCEPTED)])
    assert waited == [3.0, 4.0]
    assert send(True, [rubbish, reply(200, ACCEPTED)])[2] == [0.5]


def test_no_wait_goes_beyond_the_time_of_the_call():
    """A minute's limit does not fit into 30 s: the caller hears at once, with the seconds."""
    ended, sent, waited = send(True, [reply(429, {}, retry_after="50")])
    assert isinstance(ended, RateLimited)
    assert ended.retry_after_s == 50
    assert (len(sent), waited) == (1, [])


def test_every_try_gets_the_time_that_is_left():
    """The total counts over all tries and waits."""
    slow = Failure("slow", sent=True, elapsed_s=10.0)
    _, sent, waited = send(True, [slow], timeout_s=30.0)
    assert [step.timeout_s for step in sent] == [30.0, 19.5, 8.5]
    assert waited == [0.5, 1.0]


@pytest.mark.parametrize(
    ("attempt", "told_s", "chance", "expected_s"),
    [(1, None, 0, 0.25), (1, None, 1, 0.5), (2, None, 1, 1), (5, None, 1, 8), (50, None, 1, 8), (1, 7, 0, 7)],
)
def test_delays(attempt, told_s, chance, expected_s):
    """0.5 s to 8 s with jitter, never less than told."""
    assert delay_s(attempt, told_s, chance) == expected_s


ANSWERS = st.sampled_from(
    [*SAFE_ALWAYS.values(), *SAFE_WITH_KEYS.values(), *NEVER.values(), reply(200, ACCEPTED)]
)


@given(st.lists(ANSWERS, min_size=1, max_size=8), st.sampled_from([True, False, None]), st.integers(0, 6))
def test_every_story_has_one_end_and_never_a_second_message(answers, honours_keys, retries):
    """Result, Rejected or OutcomeUnknown; and after bytes may have left, only the same key goes out again."""
    ended, sent, _ = send(honours_keys, answers, retries=retries)
    assert isinstance(ended, Sent | Rejected | OutcomeUnknown)
    assert len(sent) <= retries + 1
    told = [answers[min(i, len(answers) - 1)] for i in range(len(sent))]
    doubtful = [answer in SAFE_WITH_KEYS.values() for answer in told]
    if any(doubtful[:-1]):
        assert honours_keys
    assert len({step.request.key for step in sent}) == 1
    if isinstance(ended, Rejected) and any(doubtful):
        assert ended.code in SETTLING
    if not any(doubtful):
        assert not isinstance(ended, OutcomeUnknown)


def test_a_refusal_of_the_repeat_does_not_unsend_the_first():
    """After a lost reply, 401 or 429 says nothing of the first try; 300 does, since keys come first."""
    unauthorized = reply(401, {"status": 401})
    ended, _, _ = send(True, [LOST, unauthorized])
    assert isinstance(ended, OutcomeUnknown)
    assert isinstance(ended.__cause__, Unauthorized)
    assert isinstance(send(True, [LOST, refused("300")])[0], Rejected)


def test_waiting_for_a_final_state():
    """Asks ever less often, stops at the first final answer, gives up with what it saw."""

    def state(value):
        return reply(
            200, {"status": "success", "code": "00", "data": [{"phone": "0912345678", "status": value}]}
        )

    statuses, sent, waited = drive(_calls.wait(peer(), 7, 60), [state(0), state(1), state(2)])
    assert [number.final for number in statuses] == [True]
    assert waited == [1.0, 1.5]
    assert [step.request.path for step in sent] == ["/index.php/sms/status/7"] * 3
    late, _, waited = drive(_calls.wait(peer(), 7, 60), [state(1)])
    assert isinstance(late, NotYetFinal)
    assert isinstance(late, TimeoutError)
    assert late.statuses[0].progress == 1
    assert sum(waited) < 60


@given(st.text(st.characters() | st.sampled_from('%/+&=\\"\u2028'), max_size=40))
def test_any_text_survives_the_wire(content):
    """What the gateway reads out of our request is the text, also where it looks percent-encoded (D16)."""
    step = next(_calls.send(peer(), ["0912345678"], content))
    assert isinstance(step, Send)
    assert step.request.body.isascii()
    kind = step.request.content_type.encode()
    try:
        read = read_send(b"", step.request.body, kind, now=datetime.now(UTC), multipart=None)
    except Declined:
        assert not content.strip() or re.search("[\0\ud800-\udfff]", content)
    else:
        assert read.content == content
        assert read.entries == ("0912345678",)


@pytest.mark.parametrize("lost", [LOST, reply(200, {"status": "success", "data": {"verified": "true"}})])
def test_only_a_plain_yes_verifies(lost):
    """A PIN is right if the reply says `true`, and nothing that merely looks like it."""
    ended, _, _ = drive(_calls.verify_pin(peer(), "0912345678", "1234", app_id="a"), [lost])
    assert not (isinstance(ended, PinCheck) and ended)


def test_a_hook_that_fails_does_not_lose_a_result(caplog):
    """The message is sent by then."""
    failing = peer()
    failing.on_exchange = lambda _: 1 / 0
    ended, _, _ = drive(_calls.send(failing, "0912345678", "hi"), [reply(200, ACCEPTED)])
    assert isinstance(ended, Sent)
    assert "on_exchange failed" in caplog.text


def test_no_connection_is_certain():
    """Nothing left the machine, so it is no unknown outcome."""
    ended, _, _ = send(False, [REFUSED_CONNECTION])
    assert isinstance(ended, Unavailable)
