"""The embedded PostgreSQL survives what happens to machines, and says plainly what it cannot survive."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from speedsms.gateway.store.embedded import home as homes
from speedsms.gateway.store.embedded import postmaster
from speedsms.gateway.store.embedded.binaries import (
    Binaries,
    ClusterFailed,
    _directories,
    _usable,
    copied,
    locate,
    reachable,
)
from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="drops or needs the rights of root")
FOUND = [b for d in _directories(None) if (b := _usable(d, "initdb")) and b.major >= 15]
PROGRAMS = {b.major: b for b in reversed(FOUND)}  # the first of each major, as a data directory takes it

# A gateway in small: acknowledges each row once it is committed, until it is killed.
WRITER = """
import asyncio, psycopg, sys
from pathlib import Path
from speedsms.gateway.store.embedded.cluster import Cluster, ClusterSettings
cluster = Cluster(ClusterSettings(Path(sys.argv[1])))
asyncio.run(cluster.start())
with psycopg.connect(cluster.admin_url, autocommit=True) as connection:
    connection.execute("CREATE TABLE written (id integer)")
    for number in range(10**6):
        connection.execute("INSERT INTO written VALUES (%s)", (number,))
        print(number, flush=True)
"""


@contextmanager
def directory():
    """A place other accounts may enter, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="speedsms-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def place():
    with directory() as path:
        yield path


@pytest.fixture(scope="module")
def born():
    """A cluster that lies stopped between the tests and is intact after each; starting it takes 0.1 s."""
    with directory() as path:
        settings = ClusterSettings(path / "db", unsafe_fsync_off=True)

        async def once():
            cluster = Cluster(settings)
            await cluster.start()
            with psycopg.connect(cluster.admin_url) as connection:
                connection.execute("CREATE TABLE kept (number text PRIMARY KEY)")
                connection.execute("INSERT INTO kept VALUES ('84912345678')")
            await cluster.stop()

        asyncio.run(once())
        yield settings


@contextmanager
def running(settings, tell=lambda _: None):
    cluster = Cluster(settings, tell)
    asyncio.run(cluster.start())
    try:
        yield cluster
    finally:
        asyncio.run(cluster.stop())


def ask(url, query):
    with psycopg.connect(url, connect_timeout=5) as connection:
        return connection.execute(query).fetchone()[0]


def refused(settings):
    with pytest.raises(ClusterFailed) as caught:
        asyncio.run(Cluster(settings).start())
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return caught.value.reason


@pytest.mark.parametrize("major", sorted({min(PROGRAMS), max(PROGRAMS)}))
def test_starts_from_nothing_and_again(place, major):
    """The oldest and newest PostgreSQL here serve from an empty directory, stop and keep their data."""
    settings = ClusterSettings(place / "db", PROGRAMS[major].directory, unsafe_fsync_off=True)
    (place / "db/pgdata.new/half").mkdir(parents=True)  # a birth that was cut short
    (place / "db").chmod(0o711)
    with running(settings) as cluster:
        assert cluster.first_start
        assert ask(cluster.url, "SHOW server_version").startswith(f"{major}.")
        assert ask(cluster.url, "SELECT upper('ngã')") == "NGÃ"
        with psycopg.connect(cluster.admin_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        pgdata = settings.data_dir / "pgdata"
    assert not postmaster.survivors(pgdata)
    assert not (pgdata / "postmaster.pid").exists()
    with running(ClusterSettings(place / "db", unsafe_fsync_off=True)) as cluster:
        assert not cluster.first_start
        assert cluster.binaries().major == major
        assert ask(cluster.admin_url, "SELECT number FROM kept") == 7


def test_nobody_enters_without_the_password(born):
    """Reaching the socket is not enough for any role, and the application may not make tables."""
    with running(born) as cluster:
        for url in (cluster.url, cluster.admin_url):
            name, _, rest = url.removeprefix("postgresql://").partition(":")
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(f"postgresql://{name}:guess@{rest.partition('@')[2]}")
        with psycopg.connect(cluster.url) as application, pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute("CREATE TABLE mine (a integer)")
        for secret in born.data_dir.glob("*.password"):
            assert secret.stat().st_mode & 0o077 == 0
        assert (
            ask(
                cluster.admin_url,
                "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'",
            )
            == 0
        )
        assert ask(cluster.admin_url, "SHOW listen_addresses") == ""


def test_a_killed_server_is_started_again(born):
    """A server that was killed (-9) comes back with its data, and each change was told once."""
    told = []

    async def story():
        ready = asyncio.Event()

        def tell(sentence):
            told.append(sentence)
            if "ready again" in sentence:
                ready.set()

        cluster = Cluster(born, tell)
        await cluster.start()
        watching = asyncio.create_task(cluster.watch())
        first, url = cluster.pid, cluster.url
        os.kill(first, signal.SIGKILL)
        await ready.wait()
        assert cluster.url == url
        assert cluster.pid != first
        assert ask(cluster.admin_url, "SELECT count(*) FROM kept") == 1
        await cluster.stop()
        await watching

    asyncio.run(asyncio.wait_for(story(), 20))
    assert told == ["PostgreSQL has ended; it is started again in 0.5 s.", "PostgreSQL is ready again."]


@pytest.mark.parametrize("server_dies_too", [False, True], ids=["adopted", "recovered"])
def test_a_killed_parent_loses_nothing(place, born, server_dies_too):
    """After kill -9 of the gateway its server is taken over, and recovers if it was killed too."""
    subprocess.run(["cp", "-a", born.data_dir, place / "db"], check=True)
    settings = ClusterSettings(place / "db")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, settings.data_dir], stdout=subprocess.PIPE, env=environment
    ) as writer:
        acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
        left = postmaster.adoptable(settings.data_dir / "pgdata")
        writer.kill()
        acknowledged += [int(line) for line in writer.stdout if line.endswith(b"\n")]
    if server_dies_too:
        os.kill(left.pid, signal.SIGKILL)
    with running(settings) as cluster:
        assert (cluster.pid == left.pid) is not server_dies_too
        assert not cluster.first_start
        assert ask(cluster.admin_url, f"SELECT count(*) FROM written WHERE id <= {acknowledged[-1]}") == len(
            acknowledged
        )
    assert not postmaster.survivors(settings.data_dir / "pgdata")


def test_a_strangers_number_in_the_pid_file_is_no_server(born):
    """A pid file that names a living process which is no server of ours is cleaned away."""
    (born.data_dir / "pgdata/postmaster.pid").write_text(
        f"{os.getpid()}\n{born.data_dir / 'pgdata'}\n1\n5432\n/\n\n1 1\nready\n"
    )
    with running(born) as cluster:
        assert cluster.pid != os.getpid()


def test_one_supervisor(born):
    """A second gateway over the same directory is refused and harms nothing."""
    with running(born) as cluster:
        assert f"process {os.getpid()} since" in refused(born)
        assert ask(cluster.admin_url, "SELECT count(*) FROM kept") == 1


def test_a_path_too_long_for_a_socket(born):
    """A data directory of any length works: the socket goes to a short path nobody else can enter."""
    with directory() as path:
        long = path / ("x" * 90)
        long.mkdir(mode=0o711)
        born.data_dir.rename(long / "db")
        try:
            with running(ClusterSettings(long / "db", unsafe_fsync_off=True)) as cluster:
                assert ask(cluster.url, "SELECT 1") == 1
                socket_dir = Path(ask(cluster.admin_url, "SHOW unix_socket_directories"))
                assert not socket_dir.is_relative_to(path)
                assert socket_dir.stat().st_mode & 0o777 == 0o700
            socket_dir.rmdir()
        finally:
            (long / "db").rename(born.data_dir)


@pytest.mark.parametrize("file", ["operator.conf", "pgdata/postgresql.auto.conf"])
@pytest.mark.parametrize("line", ["fsync = off", "synchronous_commit = local", "full_page_writes = 0"])
def test_unsafe_settings_are_refused(born, file, line):
    """No file can switch off what acknowledged messages rest on."""
    path = born.data_dir / file
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")
    try:
        reason = refused(ClusterSettings(born.data_dir))
        assert reason == f"{line.split()[0]} is switched off in {path}"
    finally:
        path.write_text(before)
    assert not postmaster.survivors(born.data_dir / "pgdata")


def test_the_operators_file_has_the_last_word(born):
    """Every other setting is the operator's, and a line PostgreSQL refuses is quoted as the reason."""
    operator = born.data_dir / "operator.conf"
    try:
        operator.write_text("work_mem = 5MB")
        with running(born) as cluster:
            assert ask(cluster.url, "SHOW work_mem") == "5MB"
        operator.write_text("work_mem = much")
        assert "configuration file" in refused(born)
    finally:
        operator.write_text("")


def test_the_log_tells_no_numbers(born):
    """An error in a statement leaves neither the statement nor its values in the log."""
    with running(born) as cluster, psycopg.connect(cluster.admin_url) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO kept VALUES ('84912345678')")
        connection.rollback()
    log = (born.data_dir / "postgresql.log").read_text()
    assert "duplicate key" in log
    assert "84912345678" not in log


def test_the_log_is_kept_short(place):
    """Logs take 50 MB at the most, and the newest lines are the ones that stay."""
    log = place / "postgresql.log"
    for number in range(8):
        log.write_bytes(b"%d" % number * homes.LOG_OCTETS)
        homes.rotate(log)
    assert log.stat().st_size == 0
    kept = [place / f"postgresql.log.{n}" for n in (1, 2, 3, 4)]
    assert [path.read_bytes()[:1] for path in kept] == [b"7", b"6", b"5", b"4"]
    assert len(list(place.iterdir())) == homes.LOG_FILES


def test_data_of_another_version_are_not_touched(born):
    """A directory of a PostgreSQL we do not have names the version and the way out."""
    version = born.data_dir / "pgdata/PG_VERSION"
    before = version.read_text()
    version.write_text("14\n")
    try:
        with pytest.raises(ClusterFailed, match=r"made by PostgreSQL 14; .* backup and restore"):
            asyncio.run(Cluster(born).start())
    finally:
        version.write_text(before)


def test_a_missing_library_is_named(place):
    """A configured directory whose programs do not run is refused with the loader's own words."""
    wheel = next((b for b in PROGRAMS.values() if "site-packages" in str(b.directory)), None)
    if wheel is None:
        pytest.skip("the wheel with PostgreSQL is not installed")
    shutil.copy(wheel.program("initdb"), place)
    assert "libpq" in refused(ClusterSettings(place / "db", place))


def test_a_directory_that_cannot_be_made(place):
    """A file where the directory should be is one line of reason."""
    (place / "file").write_text("")
    assert str(place / "file") in refused(ClusterSettings(place / "file/db"))


@as_root
def test_a_directory_of_somebody_else(place, born):
    """Neither our directory nor the server's may belong to another account."""
    (place / "db").mkdir()
    os.chown(place / "db", 65534, 65534)
    assert "belongs to nobody and we are root" in refused(ClusterSettings(place / "db"))
    owner = pwd.getpwuid((born.data_dir / "pgdata").stat().st_uid).pw_name
    other = next(name for name in ("nobody", "daemon") if name != owner)
    assert f"belongs to {owner}" in refused(ClusterSettings(born.data_dir, run_as=other))


@as_root
def test_no_account_but_root(place):
    """PostgreSQL never runs as root, whatever the settings say."""
    assert "is not root" in refused(ClusterSettings(place / "db", run_as="root"))
    assert "no account surely-nobody" in refused(ClusterSettings(place / "db", run_as="surely-nobody"))


@as_root
def test_a_full_and_a_read_only_disk(place):
    """Both are told within seconds, and room on the disk is all it takes to go on."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=711", "none", place]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    settings = ClusterSettings(place / "db", unsafe_fsync_off=True)
    try:
        assert "disk" in refused(settings)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        assert "read-only volume" in refused(settings)
        subprocess.run(["mount", "-o", "remount,rw,size=256m", place], check=True)
        with running(settings) as cluster:
            assert ask(cluster.url, "SELECT 1") == 1
    finally:
        subprocess.run(["umount", place], check=True)


@as_root
def test_a_parent_nobody_may_enter(place):
    """A directory below a closed one is refused in words that name the account and the way out."""
    place.chmod(0o700)
    assert "may not use" in refused(ClusterSettings(place / "db", unsafe_fsync_off=True))


@as_root
def test_unreachable_programs_are_copied_once(place):
    """Programs in a closed directory run from a copy beside the data, which is made once per version."""
    source = PROGRAMS[max(PROGRAMS)]
    package = source.directory.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    hidden = place / "hidden" / source.directory.relative_to(package.parent)
    hidden.mkdir(parents=True)
    shutil.copy(source.program("initdb"), hidden)
    if libraries.is_dir():
        shutil.copytree(libraries, place / "hidden" / libraries.name)
    (place / "hidden").chmod(0o700)
    programs = locate(hidden)
    account = pwd.getpwnam("nobody")
    assert not reachable(programs, account)
    copy = copied(programs, place / "binaries")
    assert reachable(copy, account)
    assert subprocess.run([copy.program("initdb"), "-V"], user=account.pw_uid, check=True).returncode == 0
    made = copy.directory.stat().st_ctime_ns
    assert copied(Binaries(programs.directory, programs.version), place / "binaries") == copy
    assert copy.directory.stat().st_ctime_ns == made


@as_root
def test_a_normal_account_needs_nothing_of_root(place):
    """Without root the same directory layout works, run by whoever we are."""
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            with running(ClusterSettings(place / "db", unsafe_fsync_off=True)) as cluster:
                answer = ask(cluster.url, "SELECT 42")
            os._exit(answer)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert (place / "db/pgdata").stat().st_uid == nobody.pw_uid
