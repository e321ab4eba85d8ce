"""`completion`: the script with which a shell completes commands and options by itself."""

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from speedsms.cli import build
from speedsms.cli.terminal import Output, show
from speedsms.cli.tree import COMMANDS, GATEWAY, Command

PLAIN: Final = Output()
_USE: Final = (
    "Bash: source <(speedsms completion bash), or for good into the file "
    "~/.local/share/bash-completion/completions/speedsms. Zsh: into a file _speedsms of $fpath. "
    "Fish: into ~/.config/fish/completions/speedsms.fish."
)


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help=_USE)],
    *,
    options: Output = PLAIN,
) -> None:
    script = build([*_installed()]).generate_completion(shell=shell)
    if options.as_json:
        show(options, {"script": script})
    else:
        sys.stdout.write(script)  # as it is: tabs mean something in it


def _installed() -> Iterator[Command]:
    """All commands, but for the gateway's where its packages are missing: their options cannot be known."""
    for command in COMMANDS:
        try:
            import_module(command.target.partition(":")[0])
        except ImportError:
            if not command.target.startswith(GATEWAY):
                raise
        else:
            yield command
