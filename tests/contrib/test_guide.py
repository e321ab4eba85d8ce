"""The page for receivers does what it says: every block of Python runs, and the receivers receive."""

import io
import re
import time
from pathlib import Path
from types import ModuleType

import pytest
from receivers import PATH, SECRET, through_asgi

from speedsms import webhook

PAGE = Path(__file__).parents[2] / "docs/how-to/receive-webhooks.md"
BODY = b'{"type":"report","tranId":1234,"phone":"0912345678","status":0}'
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf8"), re.MULTILINE | re.DOTALL)


def headers():
    return webhook.sign(BODY, SECRET, "evt_1", int(time.time()))


@pytest.fixture
def run(monkeypatch):
    """Runs the block with these words; what it defines."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)

    def ran(words):
        (block,) = [block for block in BLOCKS if words in block]
        names = {"__name__": __name__}
        exec(block, names)
        return names

    return ran


def test_no_block_is_left_out():
    """The eight blocks are those of the tests here."""
    assert len(BLOCKS) == 8


def test_anywhere(run, capsys):
    """The function for any framework accepts a genuine webhook, and says how to answer others."""
    receive = run("-> int:\n    try:")["receive"]
    assert [receive(BODY, headers()), receive(b"{}", headers()), receive(BODY, [])] == [204, 401, 401]
    assert capsys.readouterr().out == "1234 0912345678 True Đã đến máy nhận\n"


@pytest.mark.parametrize(
    ("words", "printed"), [("webhook_route", "1234 True\n"), ("WebhookEvent", "Report(tran_id=1234, ")]
)
def test_fastapi(run, capsys, words, printed):
    """The route, and the endpoint that depends on the event."""
    pytest.importorskip("fastapi")
    assert through_asgi(run(words)["app"])(BODY, headers()) == 204
    assert capsys.readouterr().out.startswith(printed)


def test_flask(run, capsys):
    """The extension with a decorated function."""
    pytest.importorskip("flask")
    client = run("Flask(__name__)")["app"].test_client()
    assert client.post(PATH, data=BODY, headers=headers()).status_code == 204
    assert capsys.readouterr().out == "1234 True\n"


def test_django(run, capsys):
    """The settings, the URLs and a receiver of the signal."""
    pytest.importorskip("django")
    import sample

    sample.setup()
    from django.core.cache import cache
    from django.test import Client, override_settings

    urls, names = ModuleType("urls"), run("urlpatterns")
    urls.urlpatterns = names["urlpatterns"]
    chosen = {name: value for name, value in run("INSTALLED_APPS").items() if name.isupper()}
    with override_settings(ROOT_URLCONF=urls, **chosen):
        client = Client()
        reply = client.post(PATH, BODY, content_type="application/json", headers=headers())
    cache.clear()
    assert reply.status_code == 204
    assert capsys.readouterr().out == "1234 True\n"


def test_wsgi(run, capsys):
    """The application for any server."""
    made = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers().items()}
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(BODY)), "wsgi.input": io.BytesIO(BODY)}
    answers = []
    run("contrib.wsgi")["application"](environ | made, lambda status, _: answers.append(status))
    assert answers == ["204 No Content"]
    assert capsys.readouterr().out.startswith("Report(tran_id=1234, ")


def test_signing(run):
    """The block for tests proves itself."""
    assert run("webhook.sign")["report"].status == 67
