"""Examples run for real: against a gateway of their own, and against the fake of the test kit."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from programs import LANGUAGES, Programs, build, found, needed

from ports import free_port
from speedsms.testing import Sender, SenderKind, fake_gateway

READY_S = 60
SENDERS = ("brandname MYSHOP", "device phone1 --mms")
# One process for several command lines, because a start costs more than a command.
COMMANDS = """
import sys
from contextlib import suppress
from speedsms.cli import main
for line in sys.stdin:
    sys.argv[1:] = line.split()
    with suppress(SystemExit):
        main()
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Where compiled programs lie, for all processes of this run of the tests."""
    place = tmp_path_factory.getbasetemp()
    return (place.parent if os.environ.get("PYTEST_XDIST_WORKER") else place) / "examples"


@pytest.fixture(params=LANGUAGES)
def language(request, built):
    """Each language in turn, with its programs compiled."""
    needed(request.param)
    build(request.param, built)
    return request.param


class Gateway:
    """A running `speedsms serve --demo`: url, token, test_token."""

    def __init__(self, folder):
        self._folder = folder
        self._environment = {n: v for n, v in os.environ.items() if not n.startswith("SPEEDSMS_")} | {
            "SPEEDSMS_HTTP_PORT": str(free_port()),
            "SPEEDSMS_DATA_DIR": str(folder / "data"),
            "SPEEDSMS_WEBHOOKS_ALLOW_LOOPBACK": "true",
            "SPEEDSMS_LOG_LEVEL": "warning",
        }

    def __enter__(self):
        ready, log = self._folder / "ready.json", (self._folder / "log").open("wb")
        command = [sys.executable, "-c", COMMANDS]
        self._process = subprocess.Popen(
            command, env=self._environment, cwd=self._folder, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        log.close()
        self._process.stdin.write(f"serve --demo --ready-file {ready}\n".encode())
        self._process.stdin.close()
        deadline = time.monotonic() + READY_S
        while not ready.exists():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)
        said = json.loads(ready.read_text())
        self.url, self.token, self.test_token = said["url"], said["token"], said["test_token"]
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(30)

    def commands(self, *lines):
        """Run command lines; what they print, each line decoded."""
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS],
            input="\n".join(lines),
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=True,
        )
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(told) == len(lines), done.stderr
        return [each["data"] for each in told]


@pytest.fixture(scope="session")
def gateway():
    with TemporaryDirectory(prefix="speedsms-") as place:
        Path(place).chmod(0o711)  # as root, PostgreSQL runs as another account that has to get in
        with Gateway(Path(place)) as running:
            running.commands(
                "account set demo rate_limit=10000 --json",
                *(f"sender add demo {sender} --json" for sender in SENDERS),
                *(f"sender approve demo {sender.split()[1]} --json" for sender in SENDERS),
            )
            yield running


@pytest.fixture
def programs(language, built, gateway):
    """The programs of each language, against the gateway."""
    return Programs(language, built, gateway.url, gateway.token)


@pytest.fixture
def fake():
    with fake_gateway() as serving:
        device = Sender(SenderKind.DEVICE, "phone1", mms=True)
        serving.account.senders += [Sender(SenderKind.BRANDNAME, "MYSHOP"), device]
        yield serving


@pytest.fixture
def faked(language, built, fake):
    """The programs of each language, against the fake."""
    return Programs(language, built, fake.url, fake.token)


@pytest.fixture
def together(built):
    """Runs a check for all languages at once, each with its own fake: for what waits more than it works."""

    def run(check):
        names = [name for name in LANGUAGES if found(name)]
        with ExitStack() as stack, ThreadPoolExecutor(len(names)) as pool:
            fakes = [stack.enter_context(fake_gateway()) for _ in names]
            faked = [
                Programs(name, build(name, built), fake.url, fake.token)
                for name, fake in zip(names, fakes, strict=True)
            ]
            list(pool.map(check, faked, fakes))

    return run
