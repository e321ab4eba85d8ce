"""`receipt …`: what carriers said that matches no message of ours."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from cyclopts import Parameter

from speedsms.cli.exits import REFUSED
from speedsms.cli.terminal import plain, refuse, show, table
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command
from speedsms.gateway.log import redacted
from speedsms.gateway.store import parked
from speedsms.gateway.store.parked import ParkedRow
from speedsms.numbers import masked

_MOST: Final = 100
_SHOWN: Final = 72  # characters of what the carrier sent, so that a row stays a row
# A receipt repeats the beginning of the message, and that may be a code (CH-10).
_TEXT: Final = re.compile(r"\btext\s*[:=].*", re.IGNORECASE | re.DOTALL)


@command
async def list_(
    *,
    channel: Annotated[str | None, Parameter(help="Of one channel only.")] = None,
    unparsed: Annotated[bool, Parameter(negative=(), help="Only those without id or state.")] = False,
    full: Annotated[
        bool, Parameter(negative=(), help="Numbers in full, and all that the carrier sent.")
    ] = False,
    options: Options = PLAIN,
) -> None:
    """The newest hundred; they are kept and tried again for 72 hours."""
    async with changing(options) as connection:
        rows = await parked.parked(connection, channel, unparsed=unparsed, most=_MOST)
    told = rows if full else [_masked(row) for row in rows]
    show(options, told, lines=table([_row(row) for row in told]))


@command
async def retry(
    receipt_id: Annotated[int | None, Parameter(help="As in the list.")] = None,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative=(), help="All that match nothing yet.")] = False,
    options: Options = PLAIN,
) -> None:
    """The running worker looks again; what still matches nothing stays in the list."""
    if all_ == (receipt_id is not None):
        refuse("either one receipt or all of them", "name an id, or --all", REFUSED)
    async with changing(options) as connection:
        count = await parked.retry(connection, receipt_id, datetime.now(UTC))
    if not (count or all_):
        refuse(f"no receipt {receipt_id} waits", "see speedsms receipt list", REFUSED)
    show(options, {"retried": count}, lines=[f"{count} receipts are looked at again now"])


def _masked(row: ParkedRow) -> ParkedRow:
    raw = redacted(_TEXT.sub("text:…", row.raw))
    return replace(row, number=row.number and masked(row.number), cause=redacted(row.cause), raw=raw[:_SHOWN])


def _row(row: ParkedRow) -> dict[str, Any]:
    """Without the next look, which people read as a promise."""
    shown: dict[str, Any] = plain(row)
    del shown["due"]
    return shown
