"""`send_many`: every entry has one outcome, in order, and no number is written to twice, whatever breaks."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms import InsufficientBalance, JournalError, Number, OutcomeUnknown, SpeedSMS, many
from speedsms.numbers import parse

PHONES = [f"09{n:08}" for n in range(250)]
ACCEPTED = {"accepted": 250}


@pytest.fixture(params=["sync", "async"])
def send_many(request, kit):
    """All outcomes of a fresh client of either kind."""

    def sync(to, content="hi", client=None, **options):
        with kit.sync(**(client or {})) as sms:
            return [*sms.send_many(to, content, **options)]

    async def asynchronous(to, content="hi", client=None, **options):
        async with kit.asynchronous(**(client or {})) as sms:
            return [outcome async for outcome in sms.send_many(to, content, **options)]

    return sync if request.param == "sync" else lambda *a, **o: asyncio.run(asynchronous(*a, **o))


def states(outcomes):
    return dict(Counter(outcome.state.value for outcome in outcomes))


def accepting(kit, request):
    """Accepts what is a number, as the gateway does."""
    to = request.json["to"]
    invalid = [entry for entry in to if parse(entry) is None]
    data = {"tranId": len(kit.service.seen), "totalSMS": len(to), "totalPrice": 250 * len(to)}
    return kit.success({**data, "invalidPhone": invalid}, **kit.ours)


def test_order_chunks_and_totals(send_many, service, kit):
    """Outcomes in the order of the input, calls of at most 100, the last Totals counts all."""
    service.default = lambda request: accepting(kit, request)
    to = [*PHONES[:150], "12", PHONES[3], Number("84987654321"), "x" * 65, *PHONES[150:]]
    seen = []
    outcomes = send_many(to, progress=seen.append, type=2)
    assert [outcome.entry for outcome in outcomes] == [getattr(entry, "e164", entry) for entry in to]
    assert [outcomes[i].state for i in (0, 150, 151, 152, 153)] == [
        "accepted",
        "invalid",
        "duplicate",
        "accepted",
        "invalid",
    ]
    assert sorted(len(request.json["to"]) for request in service.seen) == [54, 98, 100]
    assert len({request.key for request in service.seen}) == 3
    last = seen[-1]
    assert (last.done, last.accepted, last.invalid, last.duplicate) == (254, 251, 2, 1)
    assert last.total_vnd == 252 * 250
    assert last.per_s > 0
    assert [totals.done for totals in seen] == [100, 200, 254]


def test_nothing_to_do(send_many, service):
    """No entry, no call; a single string is one number and not its characters."""
    assert send_many([]) == []
    assert service.seen == []
    assert [outcome.entry for outcome in send_many("0912345678")] == ["0912345678"]


def test_at_most_so_many_calls_at_once(kit, service):
    """`concurrency` bounds what is under way."""
    now, most, lock, three = [0], [0], threading.Lock(), threading.Barrier(3, timeout=60)

    def slow(_):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        three.wait()
        service.released.wait(0.03)  # in which a fourth would be seen
        with lock:
            now[0] -= 1
        return kit.success()

    service.default = slow
    with kit.sync() as sms:
        list(sms.send_many((f"09{n:08}" for n in range(1500)), "hi", concurrency=3))
    assert most[0] == 3


def test_a_refusal_for_all_ends_the_run(send_many, service, kit):
    """Code 300: that call's numbers and all later ones are rejected, unsent."""
    service.script += [kit.success(), kit.refusal("300")]
    outcomes = send_many(PHONES, concurrency=1)
    assert states(outcomes) == {"accepted": 100, "rejected": 150}
    assert isinstance(outcomes[249].error, InsufficientBalance)
    assert len(service.seen) == 2


def test_an_unknown_call_is_not_the_end(send_many, service, kit):
    """Its numbers are unknown and carry the key; the others go on."""
    service.default = kit.success()
    service.script += [kit.success(), kit.break_.RESET_AFTER]
    outcomes = send_many(PHONES, concurrency=1)
    assert states(outcomes) == {"accepted": 150, "unknown": 100}
    assert isinstance(outcomes[100].error, OutcomeUnknown)
    assert outcomes[100].error.key == service.seen[1].key


def test_a_rate_limit_is_waited_for(send_many, service, kit):
    """A long run meets the limit of 60 a minute again and again; that is no reason to end."""
    service.script += [kit.answer(429, b"{}", Retry_After="1")] * 2
    outcomes = send_many(PHONES[:100], client={"retries": 0})
    assert states(outcomes) == {"accepted": 100}
    assert len({request.key for request in service.seen}) == 1


def test_a_finished_journal_sends_nothing(send_many, service, kit, tmp_path):
    """The same outcomes again, out of the file."""
    service.default = lambda request: accepting(kit, request)
    journal = tmp_path / "journal"
    to = [*PHONES, "12"]
    first = send_many(to, journal=journal)
    calls = len(service.seen)
    assert send_many(to, journal=journal) == first
    assert len(service.seen) == calls
    assert not re.search("09[0-9]{8}", journal.read_text())
    assert journal.stat().st_mode & 0o077 == 0


def test_a_refused_run_goes_on_after_a_top_up(send_many, service, kit, tmp_path):
    """What was certainly not sent is sent by the next run, and only that."""
    service.script += [kit.success(), kit.refusal("300")]
    journal = tmp_path / "journal"
    assert states(send_many(PHONES, concurrency=1, journal=journal)) == {"accepted": 100, "rejected": 150}
    assert states(send_many(PHONES, concurrency=1, journal=journal)) == ACCEPTED
    assert [len(request.json["to"]) for request in service.seen] == [100, 100, 100, 50]


def test_an_unknown_call_is_settled_by_the_next_run(send_many, service, kit, tmp_path):
    """It is repeated with the key and the bytes of the first time."""
    journal = tmp_path / "journal"
    account = kit.success({"email": "a", "balance": 1, "currency": "VND"}, **kit.ours)
    service.script += [kit.break_.RESET_AFTER, account]
    keys = {"honours_keys": True, "retries": 0}
    assert states(send_many(PHONES[:100], journal=journal, client=keys)) == {"unknown": 100}
    assert states(send_many(PHONES[:100], journal=journal)) == {"accepted": 100}
    first, probe, again = service.seen
    assert (first.key, first.body) == (again.key, again.body)
    assert probe.path == "/index.php/user/info"


@pytest.mark.parametrize("why", ["keys unknown", "too old", "refused before the key is looked up"])
def test_what_cannot_be_settled_stays_unknown(send_many, service, kit, tmp_path, why):
    """No second message, where the key does not help any more."""
    journal = tmp_path / "journal"
    service.default = kit.success()
    service.script += [kit.break_.RESET_AFTER]
    send_many(PHONES[:100], journal=journal, client={"honours_keys": True, "retries": 0})
    if why == "too old":
        text = re.sub(r'"at": [\d.]+', f'"at": {time.time() - 24 * 3600}', journal.read_text())
        journal.write_text(text)
    honours = why != "keys unknown"
    if why.startswith("refused"):
        service.script += [kit.answer(401, b"{}")]
    outcomes = send_many(PHONES[:100], journal=journal, client={"honours_keys": honours})
    assert states(outcomes) == {"unknown": 100}
    assert len(service.seen) == (2 if why.startswith("refused") else 1)


def test_an_ended_run_does_not_settle_what_an_earlier_one_began(send_many, service, kit, tmp_path):
    """What may have been sent is not called rejected because the money is gone now."""
    journal = tmp_path / "journal"
    service.script += [kit.success(), kit.break_.RESET_AFTER, kit.break_.RESET_AFTER]
    send_many(PHONES, journal=journal, concurrency=1, client={"honours_keys": True, "retries": 0})
    service.script += [kit.answer(401, b"{}")]
    outcomes = send_many(PHONES, journal=journal, concurrency=1, client={"honours_keys": True})
    assert states(outcomes) == {"accepted": 100, "unknown": 150}


@pytest.mark.parametrize("change", ["content", "input", "sender", "service", "token", "damaged", "in use"])
def test_a_journal_of_another_run_is_refused(kit, tmp_path, change):
    """Otherwise somebody would get another text, or nothing."""
    journal = tmp_path / "journal"
    with kit.sync() as sms:
        list(sms.send_many(PHONES, "hi", journal=journal))
    content, to, options, url, token = "hi", PHONES, {}, kit.service.url, kit.token
    if change == "content":
        content = "other"
    elif change == "input":
        to = [*PHONES[:120], "0900009999", *PHONES[121:]]
    elif change == "sender":
        options = {"sender": "SHOP"}
    elif change == "service":
        url = url.replace("127.0.0.1", "localhost")
    elif change == "token":
        token = "of-another-account-0000"
    elif change == "damaged":
        journal.write_text(journal.read_text().replace('"is"', "is"))
    other = None
    if change == "in use":
        other = many.Journal(tmp_path / "journal", _terms(kit, "hi"))
    kit.service.seen.clear()
    with SpeedSMS(token, url) as sms, pytest.raises(JournalError):
        list(sms.send_many(to, content, journal=journal, **options))
    assert not [request for request in kit.service.seen if request.json["content"] == "other"]
    if other:
        other.close()


def _terms(kit, content):
    options = {"sms_type": 2, "sender": "", "validity_s": None, "reference": None}
    caller = sha256(kit.token.encode()).hexdigest()[:32]
    return {"base_url": kit.service.url, "caller": caller, "content": content, **options}


@given(st.integers(0, 400))
def test_a_torn_journal_is_read(cut):
    """Wherever a crash cut the last line, the whole lines count and the next line stands by itself."""
    with TemporaryDirectory() as place:
        path = Path(place) / "journal"
        first = many.Journal(path, {})
        (chunk,) = many.chunks(["0912345678"])
        key = first.begin(chunk)
        first.refuse(chunk)
        first.close()
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) - cut] if cut < len(whole) else b"")
        again = many.Journal(path, {})
        begun = again.known(chunk)
        assert begun is None or begun.key == key
        again.begin(chunk)
        again.close()
        assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_blank_row_refuses_nobody_else(send_many, service, kit):
    """Also with a content that travels as a form, which would tear such entries apart."""
    service.default = kit.success()
    to = ["0912345678", "", " ", "0912345678,0987654321", "0987654321"]
    outcomes = send_many(to, "Giam50%")
    assert [outcome.state.value for outcome in outcomes] == ["accepted", *["invalid"] * 3, "accepted"]


@pytest.mark.parametrize("content", ["0912345678", "0912345678\n0987654321", '{"a": 1}\n{"b"'])
def test_another_file_is_no_journal(kit, tmp_path, content):
    """Who names the list of numbers by mistake is told so, and still has the list."""
    numbers = tmp_path / "numbers.txt"
    numbers.write_text(content)
    with kit.sync() as sms, pytest.raises(JournalError, match="no journal"):
        list(sms.send_many(PHONES, "hi", journal=numbers))
    assert numbers.read_text() == content


def test_a_full_disk_leaves_whole_rows(tmp_path):
    """A row that does not fit is not begun, and the file stays a journal."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "journal"
    first, (chunk,) = many.Journal(path, {}), many.chunks(["0912345678"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises(OSError, match="no room"):
            first.begin(chunk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    first.begin(chunk)
    first.close()
    again = many.Journal(path, {})
    assert again.known(chunk)
    again.close()


def test_no_calls_at_once_would_send_nothing(send_many, service):
    """Which must not look like a run that is done."""
    with pytest.raises(ValueError, match=r"concurrency|max_workers"):
        send_many(PHONES, concurrency=0)
    assert not service.seen


CHILD = """
import sys
from speedsms import SpeedSMS
url, token, journal = sys.argv[1:]
with SpeedSMS(token, url, honours_keys=True) as sms:
    for outcome in sms.send_many((f"09{n:08}" for n in range(1000)), "hi", journal=journal, concurrency=2):
        pass
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_killed_run_is_taken_up_where_it_was(kit, service, tmp_path, name):
    """Killed while calls are under way: the next run repeats those with their keys."""
    journal = tmp_path / "journal"
    accepted, lock, killed = {}, threading.Lock(), threading.Event()

    def once(request):
        if request.path.endswith("user/info"):
            return kit.success({"email": "a", "balance": 1, "currency": "VND"}, **kit.ours)
        with lock:
            accepted.setdefault(request.key, []).append(tuple(request.json["to"]))
            cut_off = len(accepted) in (4, 5)
        if cut_off:
            killed.wait(60)  # it is accepted, but the reply comes when nobody listens
        data = {"tranId": 1, "totalSMS": 100, "totalPrice": 25000, "invalidPhone": []}
        return kit.success(data, **kit.ours)

    service.default = once
    command = [sys.executable, "-c", CHILD, service.url, kit.token, str(journal)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(5):
        assert service.arrived.acquire(timeout=60)
    child.send_signal(getattr(signal, name))
    killed.set()
    assert child.wait(60) != 0
    with kit.sync() as sms:
        outcomes = [*sms.send_many((f"09{n:08}" for n in range(1000)), "hi", journal=journal)]
    assert states(outcomes) == {"accepted": 1000}
    sent = Counter(entry for calls in accepted.values() for entry in calls[0])
    assert len(sent) == 1000
    assert set(sent.values()) == {1}
    assert all(len(set(calls)) == 1 for calls in accepted.values())


def test_a_reader_who_stops_stops_the_sending(kit, service, tmp_path):
    """Leaving the loop ends the run after the calls under way; the journal has them."""
    journal = tmp_path / "journal"
    with kit.sync() as sms:
        outcomes = sms.send_many((f"09{n:08}" for n in range(100_000)), "hi", journal=journal, concurrency=2)
        next(outcomes)
        outcomes.close()
        calls = len(service.seen)
        assert calls <= 5
        rows = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
        assert Counter(row["is"] for row in rows)["done"] == calls


def test_a_cancelled_run_leaves_no_tasks(kit, service):
    """Cancelling the task that reads cancels what is under way."""

    async def read(sms):
        async for _ in sms.send_many((f"09{n:08}" for n in range(1000)), "hi"):
            pass

    async def main():
        service.script += [kit.break_.HANG] * 4
        async with kit.asynchronous() as sms:
            task = asyncio.create_task(read(sms))
            await asyncio.to_thread(service.arrived.acquire)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_memory_does_not_grow_with_the_input():
    """Ten times the numbers cost nothing more, once the table of seen numbers stands."""

    def peak(entries):
        tracemalloc.start()
        for _ in many.chunks(f"0912{n % 1_000_000:06}" for n in range(entries)):
            pass
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    assert peak(30_000) < 1.2 * peak(3_000) + 10_000


@given(
    st.lists(st.sampled_from(["0912345678", "84912345678", "+66812345678", "66812345678", "0387654321", "x"]))
)
def test_a_number_is_new_once(entries):
    """In any spelling, of Vietnam and of elsewhere; what is no number is left to the service."""
    decided = [(c.entries[i], i in c.decided) for c in many.chunks(entries) for i in range(len(c.entries))]
    fresh = [parse(entry, ["66"]) for entry, is_decided in decided if not is_decided and entry != "x"]
    assert len(fresh) == len(set(fresh)) == len({parse(entry, ["66"]) for entry in entries} - {None})
    assert not any(is_decided for entry, is_decided in decided if entry == "x")
