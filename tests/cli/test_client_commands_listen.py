"""`listen` and `trigger`: webhooks reach a URL of this machine, signed, whatever happens on either side."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from queue import Queue
from threading import Thread
from types import SimpleNamespace

import httpx2
import pytest

from ports import free_port
from speedsms import webhook
from speedsms.cli import build, listen
from speedsms.cli.connection import Connection
from speedsms.cli.listen import Event, Listener, _forward
from speedsms.errors import ConfigurationError, InvalidRequest
from speedsms.wire import Reason

COMMAND = [sys.executable, "-c", "from speedsms.cli import main; main()"]
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
REPORT = '{"type":"report","tranId":7,"phone":"0912345678","status":69}'
SMS = '{"type":"sms","phone":"0912345679","content":"Y\\u001b[2JES"}'


def event(cursor, body, **hints):
    return {"cursor": cursor, "id": f"evt_{cursor}", "body": body, "headers": hints}


@contextmanager
def serving(answer):
    """A server on loopback; `answer(method, path, headers, body)` gives (status, JSON or None)."""

    class Server(BaseHTTPRequestHandler):
        def _do(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, told = answer(self.command, self.path, self.headers, body)
            text = b"" if told is None else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _do  # noqa: N815 - the names of the library

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def clock(**instead):
    """The module `time`, but for these functions; other threads of this process keep theirs."""
    return SimpleNamespace(**{**vars(time), **instead})


def scripted(*replies):
    """A gateway that answers like this, in this order; what it was asked."""
    asked, left = [], iter(replies)

    def answer(request):
        asked.append(f"{request.method} {request.url.raw_path.decode()}")
        reply = next(left)
        if isinstance(reply, Exception):
            raise reply
        status, told, headers = (*reply, {})[:3]
        return httpx2.Response(status, json=told, headers=headers) if told else httpx2.Response(status)

    client = httpx2.Client(transport=httpx2.MockTransport(answer), base_url="http://gateway.local/v2/")
    return client, asked


MADE = (201, {"listener": "lst_1", "expires_s": 60})


def test_webhooks_arrive_signed(tmp_path, monkeypatch):
    """Each is signed again and posted, a receiver that fails is asked once more, and Ctrl-C deregisters."""
    asked, received, failures = [], Queue(), [500]
    batches = [[event(1, REPORT, **{"X-Speedsms-Sequence": "2"}), event(2, SMS)], [event(3, "[]")]]

    def gateway(method, path, headers, _body):
        asked.append((method, path, headers["Authorization"]))
        if method == "POST":
            return MADE
        if method == "DELETE":
            return 204, None
        return 200, {"events": batches.pop(0) if batches else [], "dropped": 0}

    def receiver(_method, _path, headers, body):
        if failures:
            return failures.pop(), None
        received.put((body, dict(headers.items())))
        return 204, None

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SPEEDSMS_TOKEN", "t0ken")
    with serving(gateway) as url, serving(receiver) as local:
        words = ["listen", "--forward-to", f"{local}/hook", "--secret", SECRET, "--base-url", url]
        process = subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        got = [received.get(timeout=60) for _ in range(3)]
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    report, sms = (webhook.parse(body, headers, SECRET) for body, headers in got[:2])
    assert (report.tran_id, report.status, report.sequence, report.event_id) == (7, 69, 2, "evt_1")
    assert (sms.content, got[0][0].decode(), got[2][0]) == ("Y\x1b[2JES", REPORT, b"[]")
    assert "report 84•••••678 Phone off, out of coverage or blocked → HTTP 204" in lines[0]
    assert "sms 84•••••679 → HTTP 204" in lines[1]
    assert "\x1b" not in "".join(lines)
    assert asked[0][:2] == ("POST", "/v2/listeners")
    assert asked[1][1] == "/v2/listeners/lst_1/events?after=0&wait=25"
    assert asked[2][1].startswith("/v2/listeners/lst_1/events?after=2&")
    assert asked[-1][:2] == ("DELETE", "/v2/listeners/lst_1")
    assert SECRET in err
    assert "t0ken" not in err


def test_a_gateway_that_was_away_is_found_again(monkeypatch, capsys):
    """Silence, trouble and a limit are waited out; a forgotten listener is made anew; nothing comes twice."""
    waits = []
    monkeypatch.setattr(listen, "time", clock(sleep=waits.append))
    client, asked = scripted(
        MADE,
        (200, {"events": [event(1, REPORT), event(2, REPORT)], "dropped": 0}),
        httpx2.ConnectError("refused"),
        (503, {"error": {"code": "unavailable", "message": "the database does not answer"}}),
        (429, {"error": {"code": "too_many_polls", "message": "20 polls"}}),
        (404, {"error": {"code": "unknown_listener", "message": "gone"}}),
        (201, {"listener": "lst_2", "expires_s": 60}),
        (200, {"events": [event(1, SMS)], "dropped": 4}),
    )
    listener = Listener(client, ("report", "sms"), Connection())
    listener.register()
    told = [(one.cursor, one.body.decode()) for one in islice(listener.events(), 3)]
    assert told == [(1, REPORT), (2, REPORT), (1, SMS)]
    assert waits == [0.5, 1, 2]
    assert asked[2] == "GET /v2/listeners/lst_1/events?after=2&wait=25"
    assert asked[-1] == "GET /v2/listeners/lst_2/events?after=0&wait=25"
    said = capsys.readouterr().err
    assert "The gateway at gateway.local:80 does not answer" in said
    assert "forgot this listener" in said
    assert "4 events were dropped" in said


def test_a_limit_at_the_start_is_waited_out(monkeypatch, capsys):
    """Such as that of a run over a file that has just ended."""
    waits = []
    monkeypatch.setattr(listen, "time", clock(sleep=waits.append))
    limit = (429, {"error": {"code": "rate_limit", "message": "60 requests a minute"}}, {"Retry-After": "37"})
    client, asked = scripted(limit, MADE)
    Listener(client, ("sms",), Connection()).register()
    assert (waits, len(asked)) == ([37], 2)
    assert "Trying again in 37 s" in capsys.readouterr().err


def test_a_receiver_that_does_not_answer_is_named(monkeypatch):
    """So that nobody looks for the fault in the gateway."""
    monkeypatch.setattr(listen, "time", clock(sleep=lambda _s: None))
    one = Event(1, "evt_1", b"{}", {})
    with httpx2.Client(trust_env=False) as local:
        said, _ = _forward(local, "http://127.0.0.1:1/hook", SECRET, one)
    assert said == "no answer from the receiver at 127.0.0.1:1 (ConnectError)"


@pytest.mark.parametrize(
    ("reached", "said"), [(1, "1 endpoint or listener"), (2, "2 endpoints and listeners")]
)
def test_trigger_counts(typed, monkeypatch, reached, said):
    """One is one."""
    monkeypatch.setenv("SPEEDSMS_TOKEN", "t0ken")
    with serving(lambda *_: (201, {"event": "evt_1", "endpoints": reached})) as url:
        assert typed("trigger", "sms", "--base-url", url)[:2] == (0, f"evt_1 goes to {said}\n")


def test_a_slow_receiver_keeps_its_listener(monkeypatch):
    """Before the gateway believes that nobody listens, it is asked again; what was done is acknowledged."""
    batch = [event(number, REPORT) for number in range(1, 4)]
    client, asked = scripted(
        MADE, (200, {"events": batch}), (200, {"events": batch[1:]}), (200, {"events": batch[2:]})
    )
    times = iter(range(0, 1000, 31))
    monkeypatch.setattr(listen, "time", clock(monotonic=lambda: next(times)))
    listener = Listener(client, ("report",), Connection())
    listener.register()
    assert [one.cursor for one in islice(listener.events(), 3)] == [1, 2, 3]
    assert [path.partition("after=")[2][:1] for path in asked[1:]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        ((404, None), ConfigurationError, None),
        ((405, None), ConfigurationError, None),
        ((302, None), ConfigurationError, None),
        ((200, {"status": "error", "code": "101"}), ConfigurationError, None),
        ((403, {"error": {"code": "scope_missing", "message": "no"}}), InvalidRequest, Reason.SCOPE_MISSING),
        (
            (409, {"error": {"code": "too_many_listeners", "message": "20"}}),
            InvalidRequest,
            "too_many_listeners",
        ),
    ],
)
def test_a_service_that_cannot_be_listened_to(reply, error, reason):
    """The vendor's answers, whatever they are, and our gateway's refusals are told apart."""
    client, _ = scripted(reply)
    with pytest.raises(error) as raised:
        Listener(client, ("sms",), Connection()).register()
    assert raised.value.reason == reason


@pytest.mark.slow
def test_a_real_gateway(database_url, tmp_path, monkeypatch, capsys):
    """What `trigger` makes reaches the receiver through `listen`, signed with the secret that was given."""
    port = free_port()
    monkeypatch.setenv("SPEEDSMS_DATABASE_URL", database_url)
    monkeypatch.setenv("SPEEDSMS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    ready = tmp_path / "ready.json"
    received = Queue()

    def receiver(_method, _path, headers, body):
        received.put(webhook.parse(body, dict(headers.items()), SECRET))
        return 200, None

    with serving(receiver) as local, (tmp_path / "log").open("w") as log:
        serve = ["serve", "--demo", "--port", str(port), "--ready-file", str(ready)]
        gateway = subprocess.Popen([*COMMAND, *serve], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert gateway.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        monkeypatch.setenv("SPEEDSMS_TOKEN", json.loads(ready.read_text())["token"])
        monkeypatch.setenv("SPEEDSMS_BASE_URL", f"http://127.0.0.1:{port}")
        words = ["listen", "--forward-to", local, "--secret", SECRET]
        listening = subprocess.Popen(
            [*COMMAND, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert "webhooks go to" in listening.stderr.readline()
        for event_ in (["report", "--status", "69", "--tran-id", "42"], ["sms", "--content", "Có ă"]):
            with pytest.raises(SystemExit):
                build()(["trigger", *event_, "--json"], result_action="print_non_int_sys_exit")
            assert json.loads(capsys.readouterr().out)["data"]["endpoints"] >= 1
        got = {type(one): one for one in (received.get(timeout=60), received.get(timeout=60))}
        listening.send_signal(signal.SIGINT)
        listening.communicate(timeout=60)
        assert listening.returncode == 0
        gateway.terminate()
        gateway.wait(30)
    assert (got[webhook.Report].tran_id, got[webhook.Report].status) == (42, 69)
    assert got[webhook.Incoming].content == "Có ă"
