"""The data directory of an embedded cluster: who owns it, who supervises it, its files and its birth."""

import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from speedsms.gateway.store.embedded import tuning
from speedsms.gateway.store.embedded.binaries import Binaries, ClusterFailed

OWNER = "speedsms_owner"
APPLICATION = "speedsms"
# A socket's path has room for 107 octets (sun_path); PostgreSQL adds its own file name.
SOCKET_PATH_OCTETS = 107 - len("/.s.PGSQL.5432.lock")
LOG_OCTETS, LOG_FILES = 10 << 20, 5


class Identity(TypedDict, total=False):
    """Arguments of Popen that give up root."""

    user: int
    group: int
    extra_groups: Iterable[str | int]


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under one data directory. All but `pgdata` and the socket is ours, not the account's."""

    root: Path
    account: pwd.struct_passwd | None  # None: PostgreSQL runs as whoever we are

    @property
    def pgdata(self) -> Path:
        return self.root / "pgdata"

    @property
    def operator(self) -> Path:
        return self.root / "operator.conf"

    @property
    def log(self) -> Path:
        return self.root / "postgresql.log"

    @property
    def socket_dir(self) -> Path:
        """Inside the data directory, or at a short path of the system when that one is too long."""
        near = self.root / "run"
        if len(os.fsencode(near)) <= SOCKET_PATH_OCTETS:
            return near
        name = f"speedsms-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]}"
        run = Path("/run") if os.geteuid() == 0 else Path(f"/run/user/{os.geteuid()}")
        return (run if os.access(run, os.W_OK) else Path(tempfile.gettempdir())) / name

    @property
    def identity(self) -> Identity:
        """How a program is started that must not be root."""
        account = self.account
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}

    def major(self) -> int | None:
        """Of the existing cluster; None when there is none yet."""
        try:
            return int((self.pgdata / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise ClusterFailed(
                f"{self.pgdata}/PG_VERSION is damaged", "restore a backup elsewhere"
            ) from None

    def give(self, path: Path) -> None:
        """Hands a path of ours to the account the server runs as."""
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def password(self, role: str) -> str:
        """Read, or made at the first start; when it was lost, the login refuses the new one."""
        path = self.root / f"{role}.password"
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(24))
        return path.read_text()


def open_home(root: Path, run_as: str | None) -> Home:
    """The directory, made if need be, checked to be ours; raises ClusterFailed when it is somebody else's."""
    us = os.geteuid()
    root = root.absolute()
    # Root's directory is entered by the server's account, which may list nothing in it.
    root.mkdir(mode=0o711 if us == 0 else 0o700, parents=True, exist_ok=True)
    owner = root.stat().st_uid
    if owner != us:
        raise ClusterFailed(
            f"{root} belongs to {_name(owner)} and we are {_name(us)}",
            f"start as {_name(owner)}, or change its owner",
        )
    home = Home(root, _account(root / "pgdata", run_as) if us == 0 else None)
    expected = home.account.pw_uid if home.account else us
    if home.pgdata.exists() and (found := home.pgdata.stat().st_uid) != expected:
        raise ClusterFailed(
            f"{home.pgdata} belongs to {_name(found)} and PostgreSQL would run as {_name(expected)}",
            "set run_as to its owner, or change its owner",
        )
    return home


def lock(home: Home) -> int:
    """The descriptor that marks us as the one supervisor for as long as we live (stack.md EP-2)."""
    descriptor = os.open(home.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 100).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise ClusterFailed(f"{home.root} is in use by {holder}", "stop that one first") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
    return descriptor


def give_birth(home: Home, binaries: Binaries, *, sync: bool) -> None:
    """Runs initdb beside the final place and moves the result there: none is ever met half made."""
    owner = home.root / f"{OWNER}.password"
    home.password(OWNER)
    home.give(owner)  # initdb reads it as the account, whose server's password it is anyway
    fresh = home.root / "pgdata.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    home.give(fresh)
    command = [
        binaries.program("initdb"),
        *("--pgdata", str(fresh), "--encoding=UTF8", "--data-checksums", "--username", OWNER),
        *("--auth=scram-sha-256", f"--pwfile={owner}"),
        *(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else []),
        "--locale=C.UTF-8",
        *([] if sync else ["--no-sync"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **home.identity)  # noqa: S603 - our own arguments
    if done.returncode:
        raise explained(home, done.stderr)
    fresh.rename(home.pgdata)


def write_configuration(home: Home, binaries: Binaries) -> list[str]:
    """Writes the generated files and returns the server's arguments that point at them.

    They stand outside `pgdata`, so root never writes into a directory that the account could have prepared.
    """
    generated, hba = home.root / "generated.conf", home.root / "generated_hba.conf"
    text = tuning.configuration(
        home.pgdata,
        home.operator,
        _memory_bytes(),
        shutil.disk_usage(home.root).total,
        lz4=binaries.built_with("lz4"),
        statements=binaries.has_library("pg_stat_statements"),
    )
    if not home.operator.exists():
        _write_public(
            home.operator, "# Your PostgreSQL settings; read after generated.conf at the next start.\n"
        )
    _write_public(generated, text)
    _write_public(hba, tuning.HBA)
    return ["-D", str(home.pgdata), "-c", f"config_file={generated}", "-c", f"hba_file={hba}"]


def _write_public(path: Path, text: str) -> None:
    path.write_text(text, "utf8")
    path.chmod(0o644)  # whatever the umask: the server's account reads it


def make_socket_dir(home: Home) -> Path:
    """0700 and the account's; one that somebody else has put there is refused."""
    path = home.socket_dir
    path.mkdir(mode=0o700, exist_ok=True)
    uid = home.account.pw_uid if home.account else os.geteuid()
    if path.is_symlink() or path.stat().st_uid not in {uid, os.geteuid()}:
        raise ClusterFailed(f"{path} is not ours", "remove it, or use a shorter data directory")
    home.give(path)
    path.chmod(0o700)
    return path


def rotate(log: Path) -> None:
    """Keeps the log under 50 MB; copies and empties it, because the server appends to the open file."""
    with suppress(OSError):  # on a full or read-only disk lines are lost, not the service
        if log.stat().st_size >= LOG_OCTETS:
            _keep(log)
            os.truncate(log, 0)


def _keep(log: Path) -> None:
    for number in range(LOG_FILES - 1, 1, -1):
        older = log.with_suffix(f".log.{number - 1}")
        if older.exists():
            older.rename(log.with_suffix(f".log.{number}"))
    with suppress(OSError):
        shutil.copyfile(log, log.with_suffix(".log.1"))


def explained(home: Home, text: str) -> ClusterFailed:
    """One line of reason out of what the operating system or PostgreSQL said (stack.md EP-12)."""
    said = text.strip()
    last = next(
        (x for x in reversed(said.splitlines()) if any(w in x for w in ("FATAL", "PANIC", "error"))), said
    )
    runner = _name(home.account.pw_uid if home.account else os.geteuid())
    known = {
        "No space left on device": (f"the disk of {home.root} is full", "free some space"),
        "Disk quota exceeded": (f"the disk quota of {home.root} is used up", "free some space"),
        "Read-only file system": (f"{home.root} is on a read-only volume", "mount it writable"),
        "shared libraries": (last, "install that library, or speedsms[gateway], which needs none"),
        "Permission denied": (
            f"{runner} may not use {home.root} ({last})",
            "choose a data directory whose parents that account may enter, such as /var/lib/speedsms",
        ),
        "Cannot allocate memory": ("too little memory", f"lower shared_buffers in {home.operator}"),
        "shared memory block": ("sessions of a killed PostgreSQL still run", "wait a moment, or end them"),
    }
    found = next((answer for sign, answer in known.items() if sign in said), None)
    return ClusterFailed(*(found or (last or "PostgreSQL ended without a word", f"see {home.log}")))


def _account(pgdata: Path, run_as: str | None) -> pwd.struct_passwd:
    """An existing account for the server; the owner of an existing cluster before any default."""
    owner = [_name(pgdata.stat().st_uid)] if pgdata.exists() else []
    for name in [run_as] if run_as else [*owner, "postgres", "nobody"]:
        with suppress(KeyError):
            account = pwd.getpwnam(name)
            if account.pw_uid:
                return account
    raise ClusterFailed(
        f"no account {run_as or 'nobody'} that is not root", "set run_as to an existing account"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _memory_bytes() -> int:
    """Of the machine, or what its container may use."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(machine, int(text)) if text.isdigit() else machine
