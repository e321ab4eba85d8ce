"""`serve` and `dev`: start the gateway."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number
from msgspec.structs import replace

from speedsms.cli.exits import CONFIGURATION
from speedsms.cli.terminal import refuse
from speedsms.gateway.cli.terminal import PLAIN, Options
from speedsms.gateway.config import Loaded, SettingsFailed, load

Port: TypeAlias = Annotated[
    int | None, Parameter(validator=Number(gte=1, lte=65535), help="Instead of http.port.")
]
DataDir: TypeAlias = Annotated[Path | None, Parameter(help="Instead of data_dir.")]
ReadyFile: TypeAlias = Annotated[Path | None, Parameter(help="Written once everything answers.")]


def serve(
    *,
    role: Annotated[Literal["all", "api", "worker"], Parameter(help="Run one kind of process only.")] = "all",
    demo: Annotated[
        bool, Parameter(negative=(), help="Make a test account and a token, and use the simulator.")
    ] = False,
    port: Port = None,
    data_dir: DataDir = None,
    ready_file: ReadyFile = None,
    options: Options = PLAIN,
) -> None:
    """Start the gateway and stay until SIGTERM, which lets it finish what it has begun."""
    from speedsms.gateway.app import supervise  # noqa: PLC0415 - builds everything; --help needs none of it

    if options.config:
        # The processes that are started read it too.
        os.environ["SPEEDSMS_CONFIG"] = str(options.config.resolve())
    loaded = _loaded(options)
    settings = loaded.settings
    if port:
        settings = replace(settings, http=replace(settings.http, port=port))
    if data_dir:
        settings = replace(settings, data_dir=data_dir.resolve())
    loaded = dataclasses.replace(loaded, settings=settings)
    sys.exit(supervise.serve(loaded, role=role, demo=demo, ready_file=ready_file))


def dev(
    *,
    port: Port = None,
    data_dir: DataDir = None,
    ready_file: ReadyFile = None,
    options: Options = PLAIN,
) -> None:
    """Start a gateway to play with; the token and a call that works are printed."""
    serve(demo=True, port=port, data_dir=data_dir, ready_file=ready_file, options=options)


def _loaded(options: Options) -> Loaded:
    from speedsms.gateway.app import declared  # noqa: PLC0415 - see above

    try:
        loaded = load(options.config)
        declared.check(loaded.channels)
    except SettingsFailed as error:
        refuse(error.reason, error.fix, CONFIGURATION)
    return loaded
