"""`serve` and `dev`: start the gateway."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from speedsms.cli import CONFIGURATION
from speedsms.gateway.cli.terminal import PLAIN, Options, refuse
from speedsms.gateway.config import Settings, SettingsFailed


def serve(
    *,
    role: Annotated[
        Literal["all", "api", "worker", "voice"], Parameter(help="Run one kind of process only.")
    ] = "all",
    demo: Annotated[
        bool, Parameter(negative=(), help="Make a test account and a token, and use the simulator.")
    ] = False,
    ready_file: Annotated[Path | None, Parameter(help="Written once everything answers.")] = None,
    options: Options = PLAIN,
) -> None:
    """Start the gateway and stay until SIGTERM, which lets it finish what it has begun."""
    from speedsms.gateway.app import supervise  # noqa: PLC0415 - builds everything; --help needs none of it

    if options.config:
        os.environ["SPEEDSMS_CONFIG"] = str(
            options.config.resolve()
        )  # the processes that are started read it too
    sys.exit(supervise.serve(_settings(options), role=role, demo=demo, ready_file=ready_file))


def dev(*, ready_file: Path | None = None, options: Options = PLAIN) -> None:
    """Start a gateway to play with; the token and a call that works are printed."""
    serve(demo=True, ready_file=ready_file, options=options)


def _settings(options: Options) -> Settings:
    try:
        return options.settings()
    except SettingsFailed as error:
        refuse(error.reason, error.fix, CONFIGURATION)
        raise
