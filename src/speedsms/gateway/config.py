"""Settings: read once from a TOML file and the environment, checked, frozen. No other file reads either.

Every setting says here what it is for; docs/reference/settings.md is generated from it.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

PREFIX = "SPEEDSMS_"
# Read by the SDK, by our tests, or here before there are settings.
_NOT_SETTINGS = frozenset(
    {
        "SPEEDSMS_CONFIG",
        "SPEEDSMS_TOKEN",
        "SPEEDSMS_BASE_URL",
        "SPEEDSMS_TEST_DATABASE_URL",
        "SPEEDSMS_FAILPOINT_FILE",
    }
)
_PLACES = (Path("speedsms.toml"), Path("/etc/speedsms/speedsms.toml"))
_PASSWORD = re.compile(r"(://[^:/@]*):[^@]*@")


class SettingsFailed(Exception):  # noqa: N818 - the house words are refuse and fail; the texts are for operators
    """`reason` names the key and its place, `fix` what to write instead; `str()` is both in one line."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}: {fix}")
        self.reason = reason
        self.fix = fix


def _doc(
    description: str, *, secret: bool = False, shown: str = "", ge: int | None = None, le: int | None = None
) -> Meta:
    """What a setting is for. `secret`: it may hold a password; `shown`: its default in words."""
    return Meta(description=description, extra={"secret": secret, "shown": shown}, ge=ge, le=le)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""


class DatabaseSettings(Section, frozen=True):
    """Where everything is remembered."""

    url: Annotated[
        str,
        _doc("PostgreSQL 15 or newer, as the serving role. Empty: the embedded one is started.", secret=True),
    ] = ""
    admin_url: Annotated[
        str, _doc("The same database as the role that owns the tables. Empty: `database.url`.", secret=True)
    ] = ""
    prepare: Annotated[
        bool, _doc("Prepare statements. Off behind PgBouncer older than 1.21 in transaction mode.")
    ] = True


class EmbeddedSettings(Section, frozen=True):
    """The PostgreSQL that `serve` starts itself."""

    bin_dir: Annotated[
        Path | None, _doc("Directory of its programs. Empty: the first found that fits the data.")
    ] = None
    run_as: Annotated[
        str | None, _doc("Existing account it runs as when we are root. Empty: `postgres`, else `nobody`.")
    ] = None


class HttpSettings(Section, frozen=True):
    """The address clients call."""

    host: Annotated[str, _doc("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, _doc("Port to listen on.", ge=1, le=65535)] = 8100
    processes: Annotated[int, _doc("Number of API processes; they share the port.", ge=1, le=64)] = 1
    trusted_proxies: Annotated[
        tuple[str, ...],
        _doc("Addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."),
    ] = ()
    public_url: Annotated[
        str, _doc("What clients type before `/index.php`, for links. Empty: built from host and port.")
    ] = ""
    connections_per_address: Annotated[
        int, _doc("Open connections allowed from one address that is no trusted proxy.", ge=1)
    ] = 1000

    def __post_init__(self) -> None:
        for network in self.trusted_proxies:
            ip_network(network, strict=False)


class CompatSettings(Section, frozen=True):
    """Switches of the vendor's wire (protocol §17)."""

    get_send: Annotated[bool, _doc("Accept `GET sms/send`, as old clients send it.")] = True
    public_http: Annotated[
        bool, _doc("Allow plain HTTP on a public address: tokens and texts can then be read on the way.")
    ] = False


class MetricsSettings(Section, frozen=True):
    """Figures for Prometheus."""

    enabled: Annotated[bool, _doc("Serve `/metrics`: all processes of this machine in one reply.")] = True


class LogSettings(Section, frozen=True):
    """Lines to stderr; numbers, texts and tokens never stand in them."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], _doc("The least important lines that are written.")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"],
        _doc("`console` is for people; `auto` takes it when stderr is a terminal, and JSON otherwise."),
    ] = "auto"


class WebhookSettings(Section, frozen=True):
    """Calls to the customers' endpoints."""

    allow_loopback: Annotated[
        bool, _doc("Also call loopback addresses. For development only: `serve --demo` sets it.")
    ] = False
    timeout_s: Annotated[int, _doc("Seconds until a call without answer is a failure.", ge=1, le=60)] = 15
    in_flight: Annotated[int, _doc("Calls to one endpoint at the same time.", ge=1, le=100)] = 10


class RetentionSettings(Section, frozen=True):
    """How long rows are kept; the ledger is kept for ever."""

    messages_days: Annotated[int, _doc("Days that requests, messages and their history stay.", ge=8)] = 90
    attempts_days: Annotated[int, _doc("Days that the log of webhook attempts stays.", ge=8)] = 30


class WorkerSettings(Section, frozen=True):
    """The processes that send."""

    processes: Annotated[
        int, _doc("Number of workers; they share the binds of carriers and the endpoints.", ge=1, le=16)
    ] = 1
    batch: Annotated[int, _doc("Messages claimed or recorded in one commit, at most.", ge=1, le=1000)] = 500


class AcceptSettings(Section, frozen=True):
    """Group commit (design §5)."""

    batch: Annotated[int, _doc("Messages accepted in one commit, at most.", ge=100, le=1000)] = 500
    queue: Annotated[
        int, _doc("Messages waiting for a commit; beyond it callers get 429 with `Retry-After`.", ge=100)
    ] = 10_000


class SmsSettings(Section, frozen=True):
    """Limits of texts (protocol §10)."""

    max_parts: Annotated[
        dict[int, Annotated[int, Meta(ge=1, le=10)]],
        _doc(
            "Parts a text may have, by `sms_type`. Types that are not named: 3 for 1, 3, 4, and 6 for others."
        ),
    ] = {}
    gsm_only: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=8)], ...],
        _doc("Values of `sms_type` whose texts must fit GSM-7; others are refused with code 110."),
    ] = ()

    def __post_init__(self) -> None:
        if unknown := set(self.max_parts) - set(range(1, 9)):
            raise ValueError(f"sms_type is 1 to 8, not {min(unknown)}")


class ValiditySettings(Section, frozen=True):
    """Life of a message by its class, where the request names none (protocol D32)."""

    otp_s: Annotated[int, _doc("Seconds, for a one-time password.", ge=30, le=259_200)] = 300
    voice_s: Annotated[int, _doc("Seconds, for a voice call.", ge=30, le=259_200)] = 120
    transactional_s: Annotated[int, _doc("Seconds, for an ordinary message.", ge=30, le=259_200)] = 86_400
    bulk_s: Annotated[int, _doc("Seconds, for advertisements and large calls.", ge=30, le=259_200)] = 86_400


class AdsSettings(Section, frozen=True):
    """Advertising (protocol §12)."""

    optout_text: Annotated[str, _doc("What `ads_label = prepend` adds at the end of an advertisement.")] = (
        ". Tu choi: soan TC"
    )


class SenderSettings(Section, frozen=True):
    """Registration of brandnames (protocol §8)."""

    allow_space: Annotated[bool, _doc("Allow single spaces inside brandnames.")] = False


def _data_dir() -> Path:
    """Root's home is closed to the account that PostgreSQL runs as, so root gets a system directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/speedsms")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "speedsms"


class Settings(Section, frozen=True):
    """Everything that can be set; `load` makes it."""

    data_dir: Annotated[
        Path,
        _doc(
            "Directory of the embedded database and of what processes share.",
            shown="`/var/lib/speedsms` for root, else `$XDG_DATA_HOME/speedsms` or `~/.local/share/speedsms`",
        ),
    ] = msgspec.field(default_factory=_data_dir)
    database: DatabaseSettings = DatabaseSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    http: HttpSettings = HttpSettings()
    compat: CompatSettings = CompatSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()
    worker: WorkerSettings = WorkerSettings()
    accept: AcceptSettings = AcceptSettings()
    sms: SmsSettings = SmsSettings()
    validity: ValiditySettings = ValiditySettings()
    ads: AdsSettings = AdsSettings()
    sender: SenderSettings = SenderSettings()

    def __post_init__(self) -> None:
        if self.database.admin_url and not self.database.url:
            raise ValueError("`database.admin_url` is set without `database.url`")
        if _public(self.http.host) and not (self.compat.public_http or self.http.trusted_proxies):
            raise ValueError(
                f"`http.host` {self.http.host} may be public, and plain HTTP would show tokens and texts; "
                "stand behind a proxy with TLS (`http.trusted_proxies`), or set `compat.public_http`"
            )


class DeclaredRoute(Section, frozen=True):
    """One of the `routes` of `[channels.NAME]`; an empty condition fits everything."""

    priority: Annotated[int, _doc("Lower goes first.")] = 100
    cost_vnd: Annotated[
        int, _doc("What a part costs us; among equal priorities the least goes first.", ge=0)
    ] = 0
    kinds: Annotated[tuple[Literal["sms", "voice", "mms", "pin"], ...], _doc("What is sent.")] = ("sms",)
    sms_types: Annotated[tuple[Annotated[int, Meta(ge=1, le=8)], ...], _doc("Values of `sms_type`.")] = ()
    carriers: Annotated[tuple[str, ...], _doc("Carriers of the recipients, such as `viettel`.")] = ()
    prefixes: Annotated[tuple[str, ...], _doc("What the recipients' numbers begin with, as 84….")] = ()


@dataclass(frozen=True, slots=True)
class DeclaredChannel:
    """A block `[channels.NAME]`; settings as they stand there, to be checked by the kind."""

    kind: str
    settings: Mapping[str, Any]
    routes: tuple[DeclaredRoute, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as documentation and `config show` present it; `path` as in "http.port"."""

    path: str
    type: Any
    default: Any
    description: str
    secret: bool

    @property
    def variable(self) -> str:
        return PREFIX + self.path.replace(".", "_").upper()

    def value(self, settings: Settings) -> Any:
        """What `settings` has here, with the passwords of URLs starred out."""
        found: Any = settings
        for name in self.path.split("."):
            found = getattr(found, name)
        return _PASSWORD.sub(r"\1:****@", found) if self.secret else found


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each came from: path of the setting → file or variable; absent = default.

    channels: those of the file by name; file: where that is.
    """

    settings: Settings
    sources: Mapping[str, str]
    channels: Mapping[str, DeclaredChannel]
    file: Path | None


def load(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """What `file`, else the first file found, says, and above it the environment. Raises SettingsFailed."""
    environ = os.environ if environ is None else environ
    place = _place(file, environ)
    raw = _read(place) if place else {}
    channels = _channels(raw.pop("channels", {}))
    _refuse_unknown(raw, Settings, "", place)
    sources = dict.fromkeys(_paths(raw), str(place))
    for variable, path, text in _variables(_with_dotenv(Path(".env"), environ)):
        _put(raw, path, text)
        sources[path] = variable
    try:
        settings = msgspec.convert(raw, Settings, strict=False, str_keys=True, dec_hook=_path)
        return Loaded(settings, sources, channels, place)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$")
        path = where.strip(".`")
        source = sources.get(path, next((s for p, s in sources.items() if path and p.startswith(path)), ""))
        raise SettingsFailed(
            f"{path or 'settings'}{f' ({source})' if source else ''}: {said}", "correct it"
        ) from None


def secret(said: str) -> str:
    """What `env:NAME` or `file:PATH` stands for; any other text is itself. Raises ValueError."""
    form, _, where = said.partition(":")
    if form == "env":
        if not (found := os.environ.get(where)):
            raise ValueError(f"the variable {where} is not set")
        return found
    if form == "file":
        try:
            return Path(where).read_text("utf8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{where} cannot be read ({error})") from None
    return said


def catalogue() -> Iterator[Setting]:
    """Every setting, in the order of `Settings`."""
    for path, field, hint in _fields(Settings):
        meta = next(m for m in hint.__metadata__ if isinstance(m, Meta))
        extra = meta.extra or {}
        default = extra["shown"] or _default(field)
        yield Setting(path, hint.__origin__, default, meta.description or "", extra["secret"])


def _fields(section: type[Struct], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    hints = get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Section):
            yield from _fields(hint, f"{above}{field.name}.")
        else:
            yield f"{above}{field.name}", field, hint


def _default(field: Any) -> Any:
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


def _place(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    if named := file or environ.get("SPEEDSMS_CONFIG"):
        if not Path(named).is_file():
            raise SettingsFailed(f"{named} is not a file", "correct --config or SPEEDSMS_CONFIG")
        return Path(named)
    return next((place for place in _PLACES if place.is_file()), None)


def _read(place: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(place.read_text("utf8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsFailed(f"{place} is not TOML ({error})", "correct that place") from None
    except OSError as error:
        raise SettingsFailed(f"{place} cannot be read ({error.strerror})", "let us read it") from None


def _channels(raw: Any) -> dict[str, DeclaredChannel]:
    if not isinstance(raw, dict):
        raise SettingsFailed("channels is no table", "write [channels.NAME]")
    return {name: _channel(f"channels.{name}", block) for name, block in raw.items()}


def _channel(path: str, block: Any) -> DeclaredChannel:
    if not isinstance(block, dict) or not isinstance(block.get("kind"), str):
        raise SettingsFailed(f"{path} has no kind", f'write [{path}] and below it kind = "smpp"')
    settings = {key: value for key, value in block.items() if key not in ("kind", "routes")}
    try:
        routes = msgspec.convert(block.get("routes", []), tuple[DeclaredRoute, ...])
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$")
        known = ", ".join(DeclaredRoute.__struct_fields__)
        raise SettingsFailed(f"{path}.routes{where.rstrip('`')}: {said}", f"a route has {known}") from None
    return DeclaredChannel(block["kind"], settings, routes)


def _refuse_unknown(raw: Mapping[str, Any], section: type[Struct], above: str, place: Path | None) -> None:
    hints = get_type_hints(section)
    for key, value in raw.items():
        if key not in hints:
            raise SettingsFailed(f"{place} has an unknown setting {above}{key}", _nearest(f"{above}{key}"))
        if isinstance(value, dict) and issubclass(_class(hints[key]), Struct):
            _refuse_unknown(value, hints[key], f"{above}{key}.", place)


def _class(hint: Any) -> type:
    return hint if isinstance(hint, type) and get_origin(hint) is None else object


def _nearest(path: str) -> str:
    """What was probably meant: the whole path nearest, else the one whose last name is."""
    known = [setting.path for setting in catalogue()] + list(Settings.__struct_fields__)
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "remove it"


def _paths(raw: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in raw.items():
        if isinstance(value, dict) and not above:
            yield from _paths(value, f"{key}.")
        else:
            yield f"{above}{key}"


def _with_dotenv(file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment over the `NAME=value` lines of a file; other programs' names are left alone."""
    if not file.is_file():
        return dict(environ)
    set_already = {_spelt(name) for name in environ}
    lines = (
        line.strip().removeprefix("export ").partition("=") for line in file.read_text("utf8").splitlines()
    )
    below = {name.strip(): value.strip().strip("'\"") for name, _, value in lines if name.startswith(PREFIX)}
    return {name: value for name, value in below.items() if _spelt(name) not in set_already} | dict(environ)


def _spelt(variable: str) -> str:
    return variable.replace("__", "_").removesuffix("_FILE")


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(variable, path, text) of each variable of ours; `SPEEDSMS_HTTP__PORT` is `SPEEDSMS_HTTP_PORT` too."""
    known = {setting.variable: setting.path for setting in catalogue()}
    seen: dict[str, str] = {}
    for variable, text in sorted(environ.items()):
        if not (variable.startswith(PREFIX) and text) or variable in _NOT_SETTINGS:
            continue  # an empty variable, as compose files make them, sets nothing
        name = variable.replace("__", "_")
        from_file = name not in known and name.endswith("_FILE")
        path = known.get(name.removesuffix("_FILE") if from_file else name)
        if path is None:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise SettingsFailed(
                f"unknown variable {variable}", f"did you mean {near[0]}?" if near else "unset it"
            )
        if path in seen:
            raise SettingsFailed(f"{seen[path]} and {variable} both set {path}", "keep one")
        seen[path] = variable
        yield variable, path, _secret(variable, text) if from_file else text


def _secret(variable: str, file: str) -> str:
    try:
        return Path(file).read_text("utf8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsFailed(
            f"{variable} names {file}, which cannot be read ({error})", "correct the path"
        ) from None


def _put(raw: dict[str, Any], path: str, text: str) -> None:
    """Lists are written `a,b` and tables `1=3,2=6` in the environment."""
    *above, name = path.split(".")
    for key in above:
        if not isinstance(raw.setdefault(key, {}), dict):
            return  # the file has a plain value where a table stands, and is refused for it
        raw = raw[key]
    kind = get_origin(next(s.type for s in catalogue() if s.path == path))
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    raw[name] = (
        pieces if kind is tuple else dict(p.partition("=")[::2] for p in pieces) if kind is dict else text
    )


def _path(wanted: type, text: Any) -> Any:
    if wanted is Path and isinstance(text, str):
        return Path(text).expanduser()
    raise NotImplementedError


def _public(host: str) -> bool:
    """Whether strangers may reach it: `0.0.0.0` is every address of the machine, a name may mean any."""
    if host == "localhost":
        return False
    try:
        return not ip_address(host).is_private or ip_address(host).is_unspecified
    except ValueError:
        return True
