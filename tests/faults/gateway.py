"""A real `speedsms serve` in a folder of its own, started as an operator starts it, and how to kill it."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress

import psutil

from ports import free_port
from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings

READY_S = 60
_COMMAND = "import sys; from speedsms.cli import main; sys.exit(main())"


class Gateway:
    """One supervisor with its children. After `start`: base, token and url, of the database."""

    def __init__(self, folder):
        self._folder = folder
        self._data = folder / "data"
        self._ready = folder / "ready.json"
        self._log = (folder / "log").open("wb")
        self._environment = {n: v for n, v in os.environ.items() if not n.startswith("SPEEDSMS_")} | {
            "SPEEDSMS_HTTP_PORT": str(free_port()),
            "SPEEDSMS_DATA_DIR": str(self._data),
            "SPEEDSMS_WEBHOOKS_ALLOW_LOOPBACK": "true",
            "SPEEDSMS_LOG_LEVEL": "warning",
        }

    async def start(self):
        self._ready.unlink(missing_ok=True)
        self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork takes 1 ms
            self._command("serve", "--demo", "--ready-file", str(self._ready)),
            env=self._environment,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        deadline = time.monotonic() + READY_S
        while not self._ready.exists():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            await asyncio.sleep(0.05)
        said = json.loads(self._ready.read_text())
        self.base, self.token = said["url"], said["token"]
        self.url = Cluster(ClusterSettings(self._data)).admin_url

    def stop(self):
        self._process.terminate()
        code = self._process.wait(30)
        self._log.close()
        print(self.log())
        assert code == 0, self.log()

    async def restart(self):
        """Ended as an operator does it, and started again; the seconds that the end took."""
        began = time.monotonic()
        self._process.terminate()
        code = await asyncio.to_thread(self._process.wait, 30)
        took_s = time.monotonic() - began
        assert code == 0, self.log()
        await self.start()
        return took_s

    @asynccontextmanager
    async def second_worker(self):
        """A worker beside the supervisor's own."""
        lifeline, own_end = os.pipe()
        command = [sys.executable, "-m", "speedsms.gateway.app", "worker", "second", str(lifeline)]
        environment = self._environment | {"SPEEDSMS_DATABASE_URL": self.url}
        process = await asyncio.create_subprocess_exec(
            *command, pass_fds=[lifeline], env=environment, stdout=subprocess.DEVNULL, stderr=self._log
        )
        try:
            yield
        finally:
            process.terminate()
            await process.wait()
            os.close(own_end)
            os.close(lifeline)

    def log(self):
        return (self._folder / "log").read_text()[-4000:]

    def cli(self, *arguments):
        done = subprocess.run(
            self._command(*arguments),
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _command(*arguments):
        return [sys.executable, "-c", _COMMAND, *arguments]

    async def kill(self, victim, dice):
        """End `api`, `worker`, `postgres` or the whole `tree`, which is then started again, by `kill -9`."""
        if victim == "tree":
            return await self._kill_tree()
        if victim == "postgres":
            # Its first process, or one session: then the first ends all others and recovers by itself.
            first = psutil.Process(self._postmaster())
            return dice.choice([first, dice.choice(_below(first, "[local]") or [first])]).kill()
        return (await self.child(victim)).kill()

    async def child(self, role):
        """The living `api` or `worker` process."""
        supervisor = psutil.Process(self._process.pid)
        while not (found := _below(supervisor, f"gateway.app {role}")):  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(0.01)
        return found[0]

    async def _kill_tree(self):
        doomed = [psutil.Process(self._process.pid), psutil.Process(self._postmaster())]
        for process in [*doomed, *(child for parent in doomed for child in parent.children(recursive=True))]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        await self.start()

    def _postmaster(self):
        return int((self._data / "pgdata/postmaster.pid").read_text().splitlines()[0])


def _below(parent, words):
    """The living children whose command line holds these words."""
    found = []
    for child in parent.children():
        with suppress(psutil.NoSuchProcess):
            if words in " ".join(child.cmdline()):
                found.append(child)
    return found
