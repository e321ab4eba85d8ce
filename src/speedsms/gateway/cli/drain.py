"""`drain`: everything that is due, now, in this process."""

from speedsms.gateway.cli.terminal import PLAIN, Options, command, show


@command
async def drain(*, options: Options = PLAIN) -> None:
    """Sends, records, reports and posts until nothing is due, then ends."""
    from speedsms.gateway.app.drain import drain as run  # noqa: PLC0415 - builds everything; --help needs none

    done = await run(options.settings())
    show(options, done, lines=[f"{count} {what}" for what, count in done.items()])
