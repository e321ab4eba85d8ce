"""A task sends once, whatever happens to its worker, its broker or the connection."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speedsms import InvalidNumber, OutcomeUnknown, SpeedSMS

celery = pytest.importorskip("celery")


@pytest.fixture
def send(sms_gateway):
    """Makes the task with a client of these options; nothing is repeated by the client itself."""
    from speedsms.contrib.celery import send_task

    clients = []

    def made(**options):
        clients.append(SpeedSMS(base_url=sms_gateway.url, retries=0, **options))
        return send_task(celery.Celery("tests", set_as_current=False), lambda: clients[-1])

    yield made
    for client in clients:
        client.close()


def run(task, to, task_id="task-1", **more):
    """As a worker would, here."""
    return task.apply((to, "Xin chao"), more, task_id=task_id)


def test_delivered_twice(send, sms_gateway):
    """The broker delivers a task again: the same result, one message."""
    task = send()
    first, second = run(task, ["0912345678", "12"]), run(task, ["0912345678", "12"])
    message, told = sms_gateway.messages[0], first.get()
    assert told == {
        "tran_id": message.tran_id,
        "total_sms": 1,
        "total_vnd": 250,
        "invalid_phones": ["12"],
    }
    assert second.get() == told
    assert len(sms_gateway.messages) == 1


def test_different_tasks_are_different_messages(send, sms_gateway):
    """Also with the same text to the same phone."""
    task = send()
    assert run(task, "0912345678", "one").get() != run(task, "0912345678", "two").get()
    assert len(sms_gateway.messages) == 2


@pytest.mark.parametrize("fault", [{"code": "500"}, {"status": 429}, {"status": 409}])
def test_what_was_not_sent_is_tried_again(send, sms_gateway, fault):
    """An internal error, the rate limit, a call of the same key that still runs."""
    sms_gateway.fail_next(**fault, times=2)
    assert run(send(), "0912345678").get()["total_sms"] == 1
    assert len(sms_gateway.messages) == 1


def test_a_lost_reply_is_asked_for_again(send, sms_gateway):
    """Where keys are honoured."""
    sms_gateway.fail_next(reset=True, accepted=True, times=2)
    assert run(send(honours_keys=True), "0912345678").get()["total_sms"] == 1
    assert len(sms_gateway.messages) == 1


def test_a_lost_reply_fails_the_task_where_keys_are_unknown(send, sms_gateway):
    """Rather than perhaps to send twice."""
    sms_gateway.fail_next(reset=True, accepted=True)
    result = run(send(honours_keys=False), "0912345678")
    assert isinstance(result.result, OutcomeUnknown)
    assert len(sms_gateway.messages) == 1


def test_a_refusal_fails_the_task(send):
    """Trying again would change nothing."""
    assert isinstance(run(send(), "12").result, InvalidNumber)


@pytest.fixture
def worker(sms_gateway, tmp_path, monkeypatch):
    """A real worker with one process to be killed, the module of its tasks, and its pid."""
    assert sms_gateway.url
    folder = Path(__file__).parent
    monkeypatch.setenv("SAMPLE_FOLDER", str(tmp_path))
    command = [sys.executable, "-m", "celery", "--app", "sample.tasks", "--skip-checks", "worker"]
    options = ["--concurrency=1", "--loglevel=CRITICAL", "--without-gossip", "--without-mingle"]
    running = subprocess.Popen(
        [*command, *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    sys.modules.pop("sample.tasks", None)
    yield importlib.import_module("sample.tasks"), running.pid
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


@pytest.mark.slow
def test_killed_after_the_gateway_accepted(worker, sms_gateway):
    """Each worker dies before it hears the reply; the task runs again, and is one message and one debit."""
    psutil = pytest.importorskip("psutil")
    tasks, pid = worker
    before_vnd = sms_gateway.account.balance_vnd
    for kills in range(1, 4):
        sms_gateway.fail_next(timeout=True, accepted=True)
        result = tasks.send.delay(f"091234567{kills}", "Xin chao")
        while len(sms_gateway.messages) < kills:
            with sms_gateway.changed:
                sms_gateway.changed.wait(0.05)
        (child,) = psutil.Process(pid).children()
        os.kill(child.pid, signal.SIGKILL)
        assert result.get(timeout=60)["total_sms"] == 1
    assert len(sms_gateway.messages) == 3
    assert before_vnd - sms_gateway.account.balance_vnd == 3 * 250
