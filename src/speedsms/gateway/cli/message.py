"""`message show`: the whole story of one request."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from speedsms.cli.exits import REFUSED
from speedsms.cli.terminal import refuse, show, vnd
from speedsms.gateway.cli.terminal import PLAIN, Options, command, opened
from speedsms.gateway.store.timeline import Story, story
from speedsms.numbers import masked


@command
async def show_(
    tran_id: Annotated[int, Parameter(help="As the API answered it.")],
    *,
    show_pii: Annotated[bool, Parameter(negative=(), help="Numbers in full, and the text.")] = False,
    options: Options = PLAIN,
) -> None:
    async with opened(options.settings()) as db:
        found = await story(db, tran_id)
    if found is None:
        refuse(
            f"there is no request {tran_id}", "check the number; old requests are gone by retention", REFUSED
        )
        return
    told = found if show_pii else _masked(found)
    show(options, told, lines=_lines(told))


def _masked(found: Story) -> Story:
    recipients = [replace(r, number=masked(r.number), entry=masked(r.entry)) for r in found.recipients]
    return replace(found, recipients=recipients, content=f"({len(found.content)} characters)")


def _lines(told: Story) -> Iterator[str]:
    yield (
        f"request {told.tran_id} of {told.account}: {told.kind} type {told.sms_type}" + " (test)" * told.test
    )
    yield f"  sender {told.sender or '-'}, {told.encoding}, {told.parts} parts, {vnd(told.total_vnd)}"
    yield f"  text: {told.content}"
    for r in told.recipients:
        yield f"  {r.n:>3}. {r.number} (as written: {r.entry}), {vnd(r.price_vnd)}, {r.state}"
    yield f"{told.at:%Y-%m-%d %H:%M:%S.%f}"[:23] + " accepted"
    for m in told.moments:
        after_ms = (m.at - told.at).total_seconds() * 1000
        yield f"{m.at:%Y-%m-%d %H:%M:%S.%f}"[:23] + f" {after_ms:+9.0f} ms  #{m.n} {m.what}: {m.detail}"
