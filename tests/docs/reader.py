"""Does what a page of the documentation says, block by block, in the folder it is started in.

    python reader.py PAGE    # prints, as JSON, what went wrong with each block: null, or a text

What the page calls the service is a fake gateway. A block of Python that begins with `# name.py` becomes
that file, any other runs in one namespace for the page; blocks of bash run with what earlier ones exported. A
block `text` says what the block before it prints, with `…` for what differs. A comment before a block:

    <!-- needs: django -->     it and what follows are left out where this module is missing
    <!-- runs on: 9000 -->     a server on this port, running from here on; webhooks are posted to it
    <!-- not run: why -->      a reader does that, and this does not
"""

import builtins
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ports import free_port
from speedsms.testing import fake_gateway

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PHONE = "0912345678"
WEBHOOKS = "/webhooks/speedsms"
LONGEST_S = 60
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>needs|runs on|not run): (?P<told>[^\n]*?) -->\n)?"
    r"^```(?P<language>python|bash)\n(?P<text>.*?)^```\n"
    r"(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# (\w+\.py)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page; `line`: where it begins. `note` and `told`: its comment."""

    language: str
    text: str
    line: int
    printed: str | None
    note: str | None
    told: str

    @property
    def file(self):
        """The file that it is, if it is one."""
        name = _FILE.match(self.text) if self.language == "python" else None
        return name and name[1]

    @property
    def needs(self):
        return self.told if self.note == "needs" else None


def blocks(page):
    """Those of a page, in order."""
    text = page.read_text("utf8")
    return [
        Block(
            m["language"],
            m["text"],
            text.count("\n", 0, m.start("language")) + 1,
            m["printed"],
            m["note"],
            m["told"] or "",
        )
        for m in _BLOCK.finditer(text)
    ]


class Reader:
    """Reads one page."""

    def __init__(self, page, found, gateway):
        self._page, self._gateway = page, gateway
        self._names = {"__name__": "__main__"}
        self._servers = []
        # What a reader copies from the welcome of the sandbox.
        self._copied = {"http://127.0.0.1:8101": gateway.url, "whsec_…": SECRET, "ss_live_…": gateway.token}
        self._ports = {block.told: free_port() for block in found if block.note == "runs on"}

    def do(self, block):
        """Raises whatever goes wrong."""
        if block.note == "not run":
            return
        text = block.text
        for shown, real in self._copied.items():
            # A placeholder in a program would fail where it is copied: only commands may have one.
            if block.language == "bash" or "…" not in shown:
                text = text.replace(shown, real)
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        if block.note == "runs on":
            self._serve(text, self._ports[block.told])
        elif block.file:
            Path(block.file).write_text(text, "utf8")
        else:
            said = self._shell(text) if block.language == "bash" else self._python(text, block.line)
            assert block.printed is None or _fits(block.printed, said), f"it prints {said!r}"

    def _python(self, text, line):
        with redirect_stdout(io.StringIO()) as said:
            exec(compile("\n" * line + text, self._page, "exec"), self._names)
        return said.getvalue()

    def _shell(self, text):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{text}\nenv -0 >.environment"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        exported = Path(".environment").read_text("utf8").rstrip("\0").split("\0")
        os.environ.update(pair.split("=", 1) for pair in exported)
        return done.stdout

    def _serve(self, text, port):
        server = subprocess.Popen(["bash", "-c", text], stdout=sys.stderr, start_new_session=True)
        self._servers.append(server)
        _reach(server, port)
        self._gateway.add_endpoint(f"http://127.0.0.1:{port}{WEBHOOKS}", secret=SECRET)

    def close(self):
        """End the servers. Raises AssertionError if one did not take a webhook."""
        self._gateway.settle()
        for server in self._servers:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        refused = [post for post in self._gateway.posts if not 200 <= post.status < 300]
        assert not refused, refused


def _reach(server, port):
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not run")


def _fits(printed, said):
    return re.fullmatch(re.escape(printed.strip()).replace("…", ".*"), said.strip(), re.DOTALL)


def read(page):
    """What went wrong with each block."""
    sys.path.insert(0, "")
    told, found = [], blocks(page)
    with fake_gateway() as gateway:
        builtins.input = lambda _prompt="": gateway.wait_otp(PHONE, LONGEST_S)  # the reader has the phone
        os.environ["WEBHOOK_SECRET"] = SECRET
        reader = Reader(str(page), found, gateway)
        for block in found:
            if block.needs and not find_spec(block.needs):
                break
            told.append(_error(reader.do, block))
        ended = _error(reader.close)
        told[-1:] = [told[-1] or ended] if told else []
    return told + [None] * (len(found) - len(told))


def _error(call, *given):
    try:
        call(*given)
    except Exception as error:  # noqa: BLE001  the next block is read too: each has its test
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    errors = read(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(errors))
