"""The pytest plugin as a project has it, and the snippets of its page."""

import re
import subprocess
import sys
from pathlib import Path

pytest_plugins = "pytester"

PAGE = Path(__file__).parents[2] / "docs/how-to/test-your-code.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf8"), re.MULTILINE | re.DOTALL)


def run(pytester):
    """A run of its own: in this process, modules that are loaded twice would catch each other's errors."""
    return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider")


def test_the_fixtures_in_a_project(pytester):
    """Installed is enough; each test begins with none; a wrong expectation shows what was sent."""
    pytester.makepyfile("""
        import speedsms

        def test_first(sms_gateway, sms_outbox, wait_otp):
            sms_gateway.script("0912345678", "failed")
            sent = speedsms.SpeedSMS().send("0912345678", "Ma: 493027")
            assert wait_otp("0912345678") == sms_outbox.last.otp == "493027"
            sms_gateway.settle()
            assert sms_outbox.last.status.name == "FAILED"

        def test_second(sms_outbox):
            sms_outbox.assert_count(0)

        def test_third(sms_outbox):
            speedsms.SpeedSMS().send("0912345678", "Ma: 493027")
            sms_outbox.assert_sent("0987654321", "493027")
    """)
    done = run(pytester)
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*no message to 0987654321 containing '493027'; 1 were sent:*"])
    done.stdout.fnmatch_lines(["*0912345678 <- sms: 'Ma: 493027'*"])


def test_projects_that_do_not_use_it_pay_nothing():
    """The plugin is imported by every pytest run: it loads no client, no loop, no fake."""
    script = (
        "import sys, pytest; before = set(sys.modules); import speedsms.testing.plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"httpx2", "asyncio", "email", "http.client", "socketserver", "speedsms.contract"}
    assert {name for name in loaded if name.startswith("speedsms")} == {
        "speedsms",
        "speedsms.testing",
        "speedsms.testing.plugin",
    }


def test_the_fake_needs_the_base_package_only():
    """Neither the gateway nor what it needs is loaded, nor the client: programs bring their own."""
    script = "import sys, speedsms.testing.server; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not [name for name in loaded if name.startswith("speedsms.gateway")]
    assert not loaded & {"msgspec", "python_multipart", "psycopg", "httpx2", "asyncio", "pytest"}


def test_the_snippets_of_the_page_run(pytester):
    """Each is a test module of its own that passes."""
    assert len(SNIPPETS) >= 5
    pytester.makepyfile(**{f"test_{n}": snippet for n, snippet in enumerate(SNIPPETS)})
    tests = sum(snippet.count("def test_") for snippet in SNIPPETS)
    run(pytester).assert_outcomes(passed=tests)
