"""The command `speedsms`. Commands are named by import path, so that the SDK never imports the gateway."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from speedsms import __version__
from speedsms.cli.exits import CONFIGURATION, INTERRUPTED
from speedsms.cli.tree import COMMANDS, GROUPS, Command

if TYPE_CHECKING:
    from cyclopts import App

_PURPOSE: Final = "Send SMS, and run the gateway that sends them."
_EXITS: Final = (
    "Exit codes: 0 done, 1 refused, 2 usage, 3 configuration, 4 unreachable, 5 unknown, 130 interrupted."
)
__all__ = ["COMMANDS", "GROUPS", "build", "main"]


def main() -> None:
    """Entry point of the console script."""
    if not find_spec("cyclopts"):
        _say('the commands need an extra: pip install "speedsms[cli]", or "speedsms[gateway]" for a gateway')
        sys.exit(CONFIGURATION)
    if sys.argv[1:] in ([], ["--help"], ["-h"]):
        sys.stdout.write(_overview())
        return
    try:
        build()(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ImportError as error:
        missing = error.__cause__ or error
        name = missing.name if isinstance(missing, ModuleNotFoundError) else None
        if not name or name.partition(".")[0] == "speedsms":
            raise
        _say(f'this command needs {name}: pip install "speedsms[gateway]"')
        sys.exit(CONFIGURATION)


def build(commands: Sequence[Command] = COMMANDS) -> "App":
    """The tree of commands; nothing of a command is loaded before it runs."""
    from cyclopts import App  # noqa: PLC0415 - an extra

    app = App(
        name="speedsms",
        version=__version__,
        help=_PURPOSE,
        help_epilogue=_EXITS,
        help_format="plaintext",  # markdown would cost a third of the time that --help takes
    )
    groups = {"": app}
    for command in commands:
        group, _, name = command.path.rpartition(" ")
        if group not in groups:
            groups[group] = App(name=group, help=GROUPS[group])
            app.command(groups[group])
        example = f"Example: speedsms {command.example}"
        groups[group].command(command.target, name=name, help=command.help, help_epilogue=example)
    return app


def _overview() -> str:
    """What `--help` says, at once: to build the tree takes longer than all else (experience U5)."""
    helps = {command.path: command.help for command in COMMANDS} | GROUPS
    names = dict.fromkeys(command.path.split()[0] for command in COMMANDS)
    lines = [f"  {name:<13} {helps[name]}" for name in names]
    more = "`speedsms COMMAND --help` shows options and an example of each."
    return "\n".join(["Usage: speedsms COMMAND", "", _PURPOSE, "", *lines, "", more, _EXITS, ""])


def _say(line: str) -> None:
    sys.stderr.write(f"speedsms: {line}\n")
