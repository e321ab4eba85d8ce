"""`config …`: the settings and where they come from."""

from typing import Any

from speedsms.cli.terminal import done, show
from speedsms.gateway.cli.terminal import PLAIN, Options, command
from speedsms.gateway.config import catalogue, load


@command
async def show_(*, options: Options = PLAIN) -> None:
    loaded = load(options.config)
    rows: list[dict[str, Any]] = [
        {
            "setting": setting.path,
            "value": setting.value(loaded.settings),
            "source": loaded.sources.get(setting.path, "default"),
        }
        for setting in catalogue()
    ]
    rows += [
        {"setting": f"channels.{name}", "value": channel.kind, "source": str(loaded.file)}
        for name, channel in loaded.channels.items()
    ]
    show(options, rows)


@command
async def check(*, options: Options = PLAIN) -> None:
    from speedsms.gateway.app import declared  # noqa: PLC0415 - the kinds of channel; `show` needs none

    declared.check(load(options.config).channels)
    done(options, "the settings are fine")
