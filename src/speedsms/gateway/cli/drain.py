"""`drain`: everything that is due, now, in this process."""

from speedsms.cli.terminal import show
from speedsms.gateway.cli.terminal import PLAIN, Options, command, opened


@command
async def drain(*, options: Options = PLAIN) -> None:
    """Sends, records, reports and posts until nothing is due, then ends."""
    from speedsms.gateway.app.drain import drain as run  # noqa: PLC0415 - builds everything; --help needs none

    settings = options.settings()
    async with opened(settings) as db:
        left = await run(db, settings)
    show(options, left, lines=[f"{count} {what}" for what, count in left.items()])
