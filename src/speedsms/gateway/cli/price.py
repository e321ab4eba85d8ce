"""`price …`: the price table."""

from typing import Annotated, Literal

from cyclopts import Parameter

from speedsms.cli.terminal import done, show, vnd
from speedsms.gateway.cli.terminal import PLAIN, Options, changing, command
from speedsms.gateway.store import routing


@command
async def set_(
    kind: Literal["sms", "voice", "mms"],
    price_vnd: Annotated[int, Parameter(help="Whole VND: of one part, one call, one MMS.")],
    *,
    type_: Annotated[int, Parameter(name="--type", help="sms_type, 1 to 8.")] = 0,
    carrier: Annotated[str, Parameter(help="For this carrier only, such as viettel.")] = "",
    country: Annotated[str, Parameter(help="For numbers of this calling code, such as 66.")] = "",
    refund_on_failure: Annotated[
        bool, Parameter(negative=(), help="Give back what fails after all.")
    ] = False,
    options: Options = PLAIN,
) -> None:
    row = routing.PriceRow(kind, type_, carrier.lower(), country, price_vnd, refund_on_failure)
    async with changing(options) as connection:
        await routing.set_price(connection, row)
    done(options, f"{kind} costs {vnd(price_vnd)} from now on; what was accepted before keeps its price")


@command
async def list_(*, options: Options = PLAIN) -> None:
    async with changing(options) as connection:
        show(options, await routing.prices(connection))
