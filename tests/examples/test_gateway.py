"""Programs against a running gateway: what this release has, and how it refuses what it has not."""

import json
import re
import shutil
import subprocess
import time
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from programs import EXAMPLES, LANGUAGES, Programs, environment

pytestmark = pytest.mark.slow

TEXT = "Xin chào bạn"


def _arrived(gateway, text):
    """The phones of the simulator to which this text came; waits until there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urlopen(f"{gateway.url}/sim/api/messages?q={quote(text)}", timeout=60) as reply:
            if found := [message["phone"] for message in json.load(reply) if message["content"] == text]:
                return found
        time.sleep(0.05)
    raise AssertionError(f"{text!r} did not arrive")


def _phone(language):
    """One of each language."""
    return f"09812345{list(LANGUAGES).index(language):02d}"


def test_send_and_status(programs):
    """Two numbers, money as it was said, and where they are."""
    text = f"{TEXT} từ {programs.language}"
    done = programs.send(text, f"{_phone(programs.language)},0987654321")
    assert done.code == 0, done.err
    assert re.search('2 accepted, 500 VND|"totalSMS":2,"totalPrice":500', done.out)
    status = programs("status", re.search(r'tranId"?[: ]+(\d+)', done.out)[1])
    assert status.code == 0, status.err
    assert re.search(
        '^0987654321 (waiting|sent|delivered)$|"phone":"0987654321","status":[012]', status.out, re.MULTILINE
    )
    assert programs("account").code == 0


def test_refused(programs):
    """Code and reason are both shown, and the exit code says that it is certain."""
    done = programs.send(TEXT, "0987654321", "3", "NOBODY")
    assert (done.code, done.out) == (1, "")
    assert re.search(r"\b101\b", done.err)
    assert "sender_not_found" in done.err


def test_unauthorized(programs):
    """A wrong token is told from a refusal of the call."""
    done = programs("account", SPEEDSMS_TOKEN="wrong_token_of_nobody")
    assert done.code == 1
    assert "invalid credentials" in done.err


@pytest.mark.parametrize(
    "call",
    [
        ("voice", "0987654321", "493027"),
        ("pin", "create", "app", "0987654321"),
        ("mms", TEXT, "https://shop.example/a.jpg", "phone1", "0987654321"),
    ],
    ids=lambda call: call[0],
)
def test_calls_of_a_later_release(programs, call):
    """What this release has not is a clear refusal: 009, api_not_allowed."""
    done = programs(*call)
    assert (done.code, done.out) == (1, "")
    assert re.search(r"\b009\b", done.err)
    assert "api_not_allowed" in done.err


@pytest.mark.parametrize("number", ["84000000012", "84000000013"], ids=["http-500", "reset-after-acceptance"])
def test_a_lost_reply(together, gateway, number):
    """The repeat has the same key: one message, and the program is told of success."""

    def check(programs, _):
        text = f"Mất trả lời {number} {programs.language}"
        variables = {"SPEEDSMS_BASE_URL": gateway.url, "SPEEDSMS_TOKEN": gateway.test_token}
        done = programs("send", text, number, **variables)
        assert done.code == 0, done.err
        assert _arrived(gateway, text) == [number]

    together(check)


def test_same_key(programs):
    """A key of one's own names a sending: the second run sends nothing new."""
    first = programs.send(TEXT, "0987654321", key=f"order-{programs.language}")
    second = programs.send(TEXT, "0987654321", key=f"order-{programs.language}")
    assert (first.code, first.out) == (0, second.out), first.err


@pytest.fixture(params=["php-json", "php-get", "node-json", "BrandnameJson", "ChallengeFirst"])
def vendor_style(request, built):
    """A program as the vendor's clients write it: its name and how it is started."""
    from programs import JAVA, build, needed

    name = request.param
    language = {"BrandnameJson": "java", "ChallengeFirst": "csharp"}.get(name, name.partition("-")[0])
    needed(language)
    build(language, built)
    return name, {
        "php": ["php", f"{EXAMPLES}/vendor-style/{name}.php"],
        "node": ["node", f"{EXAMPLES}/vendor-style/{name}.js"],
        "java": [*JAVA, str(built), name],
        "csharp": ["mono", f"{built}/{name}.exe"],
    }[language]


def _answer(command, gateway):
    variables = environment(SPEEDSMS_BASE_URL=gateway.url, SPEEDSMS_TOKEN=gateway.token)
    done = subprocess.run(
        command, env=variables, capture_output=True, timeout=60, check=False, encoding="utf8"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_existing_programs_keep_working(vendor_style, gateway):
    """Nothing but the host name changes, and the text arrives with its accents."""
    name, command = vendor_style
    text = f"{TEXT} bằng {name}"
    reply = _answer([*command, "0981234567", text, "MYSHOP"], gateway)
    assert (reply["status"], reply["code"], reply["data"]["totalSMS"]) == ("success", "00", 1)
    assert _arrived(gateway, text) == ["84981234567"]


@pytest.mark.parametrize("number", range(4, 13))
def test_every_request_shape(number, gateway):
    """S4 to S12 of protocol §5.2 (S1 to S3 are the programs above) send an accented text of type 2."""
    phone = f"09823456{number:02d}"
    reply = _answer(["bash", f"{EXAMPLES}/vendor-style/shapes.sh", f"S{number}", phone], gateway)
    assert reply["data"]["totalPrice"] == 250
    assert _arrived(gateway, f"{TEXT} S{number}") == [f"84{phone[1:]}"]


def test_the_command_line_of_curl_has_no_token(built, gateway, tmp_path):
    """Everybody on a machine can read command lines."""
    shim = tmp_path / "curl"
    shim.write_text(f'#!/bin/bash\nprintf "%s " "$@" >>{tmp_path}/seen\nexec {shutil.which("curl")} "$@"\n')
    shim.chmod(0o755)
    programs = Programs("curl", built, gateway.url, gateway.token)
    done = programs("account", PATH=f"{tmp_path}:{programs.environment['PATH']}")
    assert done.code == 0, done.err
    assert "user/info" in (tmp_path / "seen").read_text()
    assert gateway.token not in (tmp_path / "seen").read_text()
