"""A Django project sends by its setting, hears of mistakes in its settings, and receives by signals."""
# ruff: noqa: E402  a project is set up before its modules are imported

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")
import sample

sample.setup()

from django.core.checks import run_checks
from django.test import Client, override_settings

from speedsms import SenderNotFound
from speedsms.contrib import django as sms
from speedsms.contrib.django import report_received, send_sms
from speedsms.contrib.django.backends import _client

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
LOCMEM = "speedsms.contrib.django.LocMemBackend"
CONSOLE = "speedsms.contrib.django.ConsoleBackend"


@pytest.fixture
def project(sms_gateway):
    """The sample project with the token and address of a fake gateway."""
    with override_settings(SPEEDSMS_TOKEN=sms_gateway.token, SPEEDSMS_BASE_URL=sms_gateway.url):
        yield sms_gateway
    _client(sms_gateway.token, sms_gateway.url).close()
    _client.cache_clear()


class PhoneNumber:
    """As that of django-phonenumber-field."""

    as_e164 = "+84912345678"

    def __str__(self):
        return "+84 91 234 56 78"


def test_send(project):
    """The count is that of accepted recipients; the gateway got the text from a random number."""
    assert send_sms("Xin chao", "", ["0912345678", PhoneNumber(), "0987654321", "12"]) == 2
    assert {message.content for message in project.messages} == {"Xin chao"}
    assert len(project.messages) == 2


def test_an_originator_is_a_brandname(project):
    """One that is not registered is refused; `fail_silently` makes a count of it."""
    with pytest.raises(SenderNotFound):
        send_sms("Xin chao", "NOBODY", ["0912345678"])
    assert send_sms("Xin chao", "NOBODY", ["0912345678"], fail_silently=True) == 0
    assert not project.messages


def test_more_recipients_than_one_call_takes(project):
    """They go in several calls."""
    assert send_sms("Xin chao", "", [f"09123{n:05}" for n in range(250)]) == 250
    assert len({message.tran_id for message in project.messages}) == 3


def test_locmem(project):
    """Tests look into `outbox`, and nothing is sent."""
    sms.outbox.clear()
    with override_settings(SMS_BACKEND=LOCMEM):
        assert send_sms("Xin chao", "", ["0912345678", "0987654321"]) == 2
    assert [message.body for message in sms.outbox] == ["Xin chao"]
    assert not project.messages


def test_console(project, capsys):
    """Development reads them in the terminal."""
    with override_settings(SMS_BACKEND=CONSOLE):
        assert send_sms("Xin chao", "SHOP", [PhoneNumber()]) == 1
    assert capsys.readouterr().out == "SMS from SHOP to +84 91 234 56 78:\nXin chao\n\n"
    assert not project.messages


def test_another_connection(project):
    """`connection` goes before the setting."""
    sms.outbox.clear()
    assert send_sms("Xin chao", "", ["0912345678"], connection=sms.LocMemBackend()) == 1
    assert len(sms.outbox) == 1
    assert not project.messages


@pytest.mark.parametrize(
    ("changed", "ids"),
    [
        ({}, []),
        ({"SMS_BACKEND": "shop.Backend"}, ["speedsms.E001"]),
        ({"SMS_BACKEND": LOCMEM}, ["speedsms.W001"]),
        ({"SMS_BACKEND": CONSOLE, "DEBUG": True}, []),
        ({"SPEEDSMS_WEBHOOK_SECRET": ""}, ["speedsms.W002"]),
        ({"SPEEDSMS_WEBHOOK_SECRET": [SECRET, SECRET]}, []),
        ({"SPEEDSMS_WEBHOOK_SECRET": "secret"}, ["speedsms.E002"]),
    ],
)
def test_checks(changed, ids):
    """Mistakes in the settings are heard of before the first message."""
    with override_settings(**changed):
        assert [found.id for found in run_checks(tags=["speedsms"])] == ids


def test_manage_check():
    """The command of Django itself knows the checks, and finds nothing wrong in the sample project."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "sample.settings"}
    command = [sys.executable, "-m", "django", "check", "--tag", "speedsms", "--fail-level", "WARNING"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=True
    )
    assert "no issues" in done.stdout


def test_a_view_without_a_secret_accepts_nothing():
    """It fails, so that the gateway keeps the events until somebody sets one."""
    client = Client(raise_request_exception=False)
    with override_settings(SPEEDSMS_WEBHOOK_SECRET=""):
        assert client.post("/webhooks/speedsms").status_code == 500


def test_from_the_backend_to_the_signal(project):
    """A project sends, the gateway posts its signed report to the view, and the signal has it."""
    reports = []

    def on_report(report, **_):
        reports.append(report)

    def post(body, headers):
        Client().post("/webhooks/speedsms", body, content_type="application/json", headers=headers)

    report_received.connect(on_report)
    project.add_endpoint(post, secret=SECRET)
    project.script("0912345678", "failed")
    assert send_sms("Xin chao", "", ["0912345678"]) == 1
    project.advance(60)
    assert [(report.phone, report.final, report.delivered) for report in reports] == [
        ("0912345678", True, False)
    ]
