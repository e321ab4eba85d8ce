"""Where the token and the address come from: arguments, then the environment, then a profile file."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from speedsms.errors import ConfigurationError

_TOKEN: Final = re.compile(r"[!-9;-~]+")  # a colon would end it inside Basic (protocol §2)
# Names that no public server has: single labels of a container network, and those kept for local use.
_LOCAL_NAME: Final = re.compile(r"[a-z_][a-z0-9_-]*|.+\.(?:localhost|local|internal)")
_ADVICE: Final = (
    "Set SPEEDSMS_BASE_URL or pass base_url (in the shell --base-url): "
    "http://127.0.0.1:8100 is a gateway of your own on this machine, "
    "https://api.speedsms.vn the vendor's service."
)


class NoToken(ConfigurationError):  # noqa: N818  it says what is the matter
    """Neither an argument nor the environment nor a profile has one."""

    hint = "Set SPEEDSMS_TOKEN, or pass token, or run `speedsms login`."


class PublicHttp(ConfigurationError):  # noqa: N818  it says what is the matter
    """The token would go over the internet unencrypted."""

    hint = "Use https, or allow_http=True if the way there is private."


@dataclass(frozen=True, slots=True)
class Settings:
    """Who calls whom. `base_url` has no trailing slash; `prefix` is the path that endpoints stand under."""

    token: str = field(repr=False)
    base_url: str

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def prefix(self) -> str:
        """`/index.php/`, below whatever path the base URL has (protocol §1.1)."""
        path = urlsplit(self.base_url).path
        return f"{path}/" if path.endswith("/index.php") else f"{path}/index.php/"


def profiles_path() -> Path:
    """Where profiles are kept: `profiles.toml` below XDG_CONFIG_HOME or ~/.config."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "speedsms" / "profiles.toml"


def load(
    token: str | None = None,
    base_url: str | None = None,
    *,
    profile: str | None = None,
    allow_http: bool = False,
) -> Settings:
    """Resolve token and address, each on its own; a profile named here goes before the environment.

    The file is only read if something is missing. Raises ConfigurationError that says what to set.
    """
    found = {"token": token, "base_url": base_url}
    if profile:
        _fill(found, read_profile(profile))
    _fill(found, {name: os.environ.get(f"SPEEDSMS_{name.upper()}", "") for name in found})
    if not all(found.values()) and not profile:
        _fill(found, _chosen_profile())
    if not found["token"]:
        raise NoToken("No token.")
    if not found["base_url"]:
        raise ConfigurationError(f"No address. {_ADVICE}")
    if not _TOKEN.fullmatch(found["token"]):
        raise ConfigurationError("The token holds a space, a line end, a colon or a letter beyond ASCII.")
    return Settings(found["token"], _address(found["base_url"], allow_http=allow_http))


def _fill(found: dict[str, str | None], more: Mapping[str, str]) -> None:
    for name, value in found.items():
        found[name] = value or more.get(name)


def _chosen_profile() -> Mapping[str, str]:
    if chosen := os.environ.get("SPEEDSMS_PROFILE"):
        return read_profile(chosen)
    return read_profile("default") if profiles_path().exists() else {}


def read_profile(name: str) -> Mapping[str, str]:
    """`token` and `base_url` of the table `[name]` of the profile file.

    Raises ConfigurationError if there is no such profile, or others than its owner may read the file.
    """
    path = profiles_path()
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigurationError(f"Others can read the tokens in {path}: chmod 600 {path}")
        profiles = tomllib.loads(path.read_text("utf8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}") from None
    found = profiles.get(name)
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} has no profile {name!r}; it has: {', '.join(profiles) or 'none'}.")
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _address(base_url: str, *, allow_http: bool) -> str:
    try:
        parts = urlsplit(base_url.rstrip("/"))
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"The base URL cannot be read: {error}. {_ADVICE}") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ConfigurationError(f"The base URL is not http(s)://host without a name in it. {_ADVICE}")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"The base URL ends behind its path. {_ADVICE}")
    if parts.scheme == "http" and not allow_http and not is_near(host):
        raise PublicHttp(f"http://{host} would carry the token in clear over the internet.")
    return parts.geturl()


def is_near(host: str) -> bool:
    """Whether a host is on this machine or in a private network, as far as its name tells."""
    try:
        address = ip_address(host)
    except ValueError:
        return bool(_LOCAL_NAME.fullmatch(host))
    return address.is_private
