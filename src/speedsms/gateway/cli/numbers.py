"""`portability …` and `suppression …`: what is known of single numbers."""

import csv
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import ExistingFile

from speedsms.cli.terminal import progress, show
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command
from speedsms.gateway.store import routing

Account = Annotated[str, Parameter(help="The account's name.")]
Why = Annotated[Literal["do_not_call", "opt_out", "blocked"], Parameter(help="Why it is not written to.")]


@command
async def portability(
    file: Annotated[ExistingFile, Parameter(help="CSV without a head: number,carrier.")],
    *,
    options: Options = PLAIN,
) -> None:
    async with changing(options) as connection:
        done = await _counted(routing.load_portability(connection, _lines(file)))
    show(options, {"loaded": done}, lines=[f"{done} numbers"])


@command
async def suppress(
    account: Account, number: str, *, reason: Why = "do_not_call", options: Options = PLAIN
) -> None:
    async with changing(options) as connection:
        done = await _counted(
            routing.load_suppression(connection, account, reason, [number], datetime.now(UTC))
        )
    show(options, {"loaded": done}, lines=["the number is no longer written to"])


@command
async def suppress_file(
    account: Account,
    file: Annotated[ExistingFile, Parameter(help="One number a line.")],
    *,
    reason: Why = "do_not_call",
    options: Options = PLAIN,
) -> None:
    with file.open(encoding="utf8", errors="replace") as numbers:
        async with changing(options) as connection:
            loading = routing.load_suppression(connection, account, reason, numbers, datetime.now(UTC))
            done = await _counted(loading)
    show(options, {"loaded": done}, lines=[f"{done} numbers"])


@command
async def release(account: Account, number: str, *, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        await routing.remove_suppression(connection, account, number)
    show(options, {"removed": 1}, lines=["the number is written to again"])


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    with file.open(encoding="utf8", errors="replace", newline="") as lines:
        for row in csv.reader(lines):
            number, carrier, *_ = [*row, "", ""]
            yield number, carrier


async def _counted(batches: AsyncIterator[int]) -> int:
    done = 0
    async for done in batches:
        progress(f"{done:,} numbers")
    return done
