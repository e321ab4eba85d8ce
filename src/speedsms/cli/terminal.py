"""What all commands share: output for people and for programs, exit codes, neutral text."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime, timedelta, timezone
from shutil import get_terminal_size
from typing import Annotated, Any, Final, NoReturn

from cyclopts import Parameter

VIETNAM: Final = timezone(timedelta(hours=7))  # people think in it, whatever the machine's zone
SCHEMA: Final = 1  # of what --json prints; raised when a key changes its meaning


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Every command has this option."""

    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for programs.")] = False


def refuse(reason: str, fix: str, code: int) -> NoReturn:
    """Ends the command."""
    say(f"{reason}: {fix}")
    sys.exit(code)


def say(line: str) -> None:
    """To people, beside the data."""
    sys.stderr.write(f"speedsms: {neutral(line)}\n")


def progress(line: str) -> None:
    """How far long work has come, in place; only for eyes."""
    if sys.stderr.isatty():
        seen = neutral(line)[: get_terminal_size().columns - 1]  # a line that wraps would not go away
        sys.stderr.write(f"\r\033[K{seen}\r")
        sys.stderr.flush()


def done(output: Output, line: str) -> None:
    """The result of a command that has no data."""
    show(output, {"done": line}, lines=[line])


def show(output: Output, data: Any, *, lines: Iterable[str] | None = None) -> None:
    """To stdout: JSON of `data`, or for people `lines`, else a table of the rows in `data`."""
    if output.as_json:
        # ASCII alone: what could steer a terminal is escaped, and programs read the same.
        sys.stdout.write(json.dumps({"schema": SCHEMA, "data": plain(data)}, default=_written) + "\n")
    else:
        sys.stdout.writelines(f"{neutral(line)}\n" for line in (table(data) if lines is None else lines))


def _written(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def plain(value: Any) -> Any:
    """Rows as dictionaries, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key.rstrip("_"): plain(item) for key, item in asdict(value).items()}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def table(rows: list[Any]) -> Iterable[str]:
    """Columns that line up and survive a pipe."""
    if not rows:
        return ["none"]
    dicts = [plain(row) for row in rows]
    cells = [[key.upper() for key in dicts[0]], *([_cell(value) for value in row.values()] for row in dicts)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _cell(value: Any) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case Mapping():
            return " ".join(f"{key}={item}" for key, item in value.items()) or "-"
        case list() | tuple():
            return ",".join(map(str, value)) or "-"
    return neutral(str(value))


def vnd(amount: int) -> str:
    """`1.000.000 ₫`, as Vietnamese people write it."""
    return f"{amount:,} ₫".replace(",", ".")


def neutral(text: str) -> str:
    """Texts come from strangers: what could steer a terminal is shown, not obeyed."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
