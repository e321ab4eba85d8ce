"""One running `postgres`: our child, or one that a killed parent left behind and that we adopt."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PidFile:
    """What `postmaster.pid` says: it has eight lines once the server has got that far."""

    pid: int
    socket_dir: Path
    status: str

    @classmethod
    def read(cls, pgdata: Path) -> "PidFile | None":
        """None when there is no file, or only the beginning of one."""
        try:
            lines = (pgdata / "postmaster.pid").read_text("utf8", "replace").splitlines()
            return cls(int(lines[0]), Path(lines[4]), lines[7].strip() if len(lines) > 7 else "starting")
        except (FileNotFoundError, IndexError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server process over `pgdata`; `child` is None when it was adopted."""

    pid: int
    pgdata: Path
    child: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        """Also reaps the child once it has ended."""
        return works_in(self.pid, self.pgdata) if self.child is None else self.child.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal, unless the process has gone."""
        if self.alive():
            os.kill(self.pid, number)


def adoptable(pgdata: Path) -> Postmaster | None:
    """The live server that `postmaster.pid` names, if it is really one over this directory."""
    left = PidFile.read(pgdata)
    return Postmaster(left.pid, pgdata) if left and works_in(left.pid, pgdata) else None


def works_in(pid: int, pgdata: Path) -> bool:
    """Whether process `pid` lives and has `pgdata` as its working directory, as every server process has.

    So neither a zombie nor a stranger with a reused number passes. Without /proc only life is checked.
    """
    try:
        if Path("/proc/self").exists():
            return Path(f"/proc/{pid}/cwd").samefile(pgdata)
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def survivors(pgdata: Path) -> list[int]:
    """Processes that still work in `pgdata`: sessions end a moment after their server was killed."""
    return [int(p.name) for p in Path("/proc").glob("[0-9]*") if works_in(int(p.name), pgdata)]


def clean(pgdata: Path, socket_dir: Path) -> None:
    """Removes what a dead server left. Only after `survivors` is empty: the pid file also protects them."""
    left = PidFile.read(pgdata)
    if left and not Path("/proc/self").exists() and works_in(left.pid, pgdata):
        return  # Without /proc we cannot tell a stranger from a server, so PostgreSQL itself shall decide.
    for path in (pgdata / "postmaster.pid", *socket_dir.glob(".s.PGSQL.*")):
        path.unlink(missing_ok=True)
