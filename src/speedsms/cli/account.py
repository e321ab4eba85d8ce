"""`login`, `logout`, `balance`: the profile file, and the account behind a token."""

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from getpass import getpass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

import speedsms
from speedsms.cli.connection import PLAIN, Connection, Spoken, command
from speedsms.cli.exits import USAGE
from speedsms.cli.terminal import done, refuse, show, vnd
from speedsms.errors import ConfigurationError
from speedsms.settings import load, profiles_path

Profile = Annotated[str, Parameter(env_var="SPEEDSMS_PROFILE", help="Its name in the profile file.")]
Profiles: TypeAlias = dict[str, dict[str, str]]
_SPOKEN: Final = Spoken()


@command
def login(
    *,
    profile: Profile = "default",
    base_url: Annotated[str | None, Parameter(help="Of the service, such as http://127.0.0.1:8100.")] = None,
    options: Spoken = _SPOKEN,
) -> None:
    """The token is asked for without echo, or read from standard input: others can see arguments."""
    profiles = _read(profiles_path())
    settings = load(_token(), base_url or profiles.get(profile, {}).get("base_url"))
    with speedsms.SpeedSMS(settings.token, settings.base_url, language=options.lang) as client:
        account = client.account()
    profiles[profile] = {"token": settings.token, "base_url": settings.base_url}
    _write(profiles_path(), profiles)
    data = {"profile": profile, "base_url": settings.base_url, "email": account.email}
    show(options, data, lines=[f"{account.email} at {settings.base_url} is the profile {profile}"])


@command
def logout(*, profile: Profile = "default", options: Spoken = _SPOKEN) -> None:
    """The token itself stays valid: its operator can revoke it."""
    profiles = _read(profiles_path())
    if profiles.pop(profile, None) is None:
        raise ConfigurationError(f"{profiles_path()} has no profile {profile!r}.")
    _write(profiles_path(), profiles)
    done(options, f"the profile {profile} is forgotten")


@command
def balance(*, options: Connection = PLAIN) -> None:
    with options.client() as client:
        found = client.account()
    data = {"email": found.email, "balance_vnd": found.balance_vnd, "currency": found.currency}
    show(options, data, lines=[f"{found.email}: {vnd(found.balance_vnd)}"])


def _token() -> str:
    """Ends the command if there is none: one of the environment is kept already."""
    token = ""
    try:
        token = (getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    except EOFError:
        sys.stderr.write("\n")  # behind the prompt
    return token or refuse("no token was given", "type it at the prompt, or pipe it in", USAGE)


def _read(path: Path) -> Profiles:
    """Raises ConfigurationError, also for more than `login` writes: it would be lost."""
    try:
        found = tomllib.loads(path.read_text("utf8")) if path.exists() else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}.") from None
    values = [
        value for table in found.values() for value in (table.values() if isinstance(table, dict) else [0])
    ]
    if not all(isinstance(value, str) for value in values):
        raise ConfigurationError(f"{path} holds more than profiles of texts: change it by hand.")
    return found


def _write(path: Path, profiles: Mapping[str, Mapping[str, str]]) -> None:
    """For its owner's eyes alone from the first byte on, and whole whenever it is read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text("\n".join(_table(name, profile) for name, profile in profiles.items()), "utf8")
    fresh.replace(path)


def _table(name: str, profile: Mapping[str, str]) -> str:
    # A text of JSON is one of TOML too, unless it holds DEL or is written with surrogates.
    quoted = [f"{_quoted(key)} = {_quoted(value)}\n" for key, value in profile.items()]
    return f"[{_quoted(name)}]\n{''.join(quoted)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
