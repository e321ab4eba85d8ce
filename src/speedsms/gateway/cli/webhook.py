"""`webhook …`: the endpoints of customers and what was posted to them."""

import secrets
from base64 import b32decode
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from cyclopts import Parameter

from speedsms.cli.exits import REFUSED
from speedsms.cli.terminal import done, refuse, say, show
from speedsms.contract.webhook import secret_from
from speedsms.gateway import net
from speedsms.gateway.cli.terminal import PLAIN, Options, command, opened
from speedsms.gateway.store import admin, endpoints, outbox

Endpoint = Annotated[int, Parameter(help="The endpoint's id, as in the list.")]


@command
async def set_(
    account: Annotated[str, Parameter(help="The account's name.")],
    event: Annotated[Literal["report", "sms"], Parameter(help="Delivery reports, or incoming messages.")],
    url: Annotated[str, Parameter(help="Where they are posted.")],
    *,
    legacy_secret: Annotated[
        str | None, Parameter(help="Also send it as X-SpeedSMS-Secret; never the signing secret.")
    ] = None,
    options: Options = PLAIN,
) -> None:
    settings = options.settings()
    try:
        net.target(url, allow_loopback=settings.webhooks.allow_loopback)
    except net.Failed as error:
        refuse(str(error), "name a public http or https URL", REFUSED)
    async with opened(settings) as db:
        async with db.transaction() as connection:
            account_id = await admin.account_id(connection, account)
        known = [e for e in await endpoints.of_account(db, account_id) if (e.event, e.url) == (event, url)]
        if known:
            say("this endpoint is there already")
        secret = known[0].secrets[0] if known else secret_from(secrets.token_bytes(32))
        endpoint_id = (
            known[0].id
            if known
            else await endpoints.add(db, account_id, event, url, secret, legacy_secret=legacy_secret)
        )
    show(
        options, {"id": endpoint_id, "secret": secret}, lines=[f"endpoint {endpoint_id} signs with {secret}"]
    )


@command
async def list_(
    account: Annotated[str, Parameter(help="The account's name.")], *, options: Options = PLAIN
) -> None:
    async with opened(options.settings()) as db:
        async with db.transaction() as connection:
            account_id = await admin.account_id(connection, account)
        found = await endpoints.of_account(db, account_id)
    show(
        options,
        [
            {
                "id": e.id,
                "event": e.event,
                "url": e.url,
                "enabled": e.enabled,
                "disabled_why": e.disabled_why,
                "failing_since": e.failing_since,
            }
            for e in found
        ],
    )


@command
async def sample(endpoint: Endpoint, *, options: Options = PLAIN) -> None:
    """The running worker posts it; its log and `attempt_log` tell the result."""
    async with opened(options.settings()) as db:
        _need(endpoint, found=await endpoints.send_sample(db, endpoint, datetime.now(UTC)))
    done(options, f"a sample is on its way to endpoint {endpoint}")


@command
async def replay(
    endpoint: Endpoint,
    *,
    since: Annotated[datetime | None, Parameter(help="Of events since then, UTC; else all.")] = None,
    options: Options = PLAIN,
) -> None:
    start = (since or datetime.fromtimestamp(0, UTC)).replace(tzinfo=UTC)
    done = 0
    async with opened(options.settings()) as db:
        while batch := await outbox.replay_since(db, endpoint, start, datetime.now(UTC)):
            done += batch
            say(f"{done} events")
            if batch < outbox.BATCH:
                break
    show(options, {"replayed": done}, lines=[f"{done} events are posted again"])


@command
async def resend(
    account: Annotated[str, Parameter(help="The account's name.")],
    event: Annotated[str, Parameter(help="Its webhook-id (evt_…), or its id in message show.")],
    *,
    options: Options = PLAIN,
) -> None:
    event_id = _event_id(event)
    async with opened(options.settings()) as db:
        async with db.transaction() as connection:
            account_id = await admin.account_id(connection, account)
        done = await outbox.replay(db, account_id, event_id, datetime.now(UTC))
    show(options, {"replayed": done}, lines=[f"{done} events are posted again"])


@command
async def rotate(endpoint: Endpoint, *, options: Options = PLAIN) -> None:
    """Until `webhook retire`, every webhook carries a signature of both secrets."""
    secret = secret_from(secrets.token_bytes(32))
    async with opened(options.settings()) as db:
        _need(endpoint, found=await endpoints.rotate(db, endpoint, secret))
    show(options, {"id": endpoint, "secret": secret}, lines=[secret])


@command
async def retire(endpoint: Endpoint, *, options: Options = PLAIN) -> None:
    async with opened(options.settings()) as db:
        _need(endpoint, found=await endpoints.retire(db, endpoint))
    done(options, f"endpoint {endpoint} signs with its newest secret alone")


@command
async def enable(endpoint: Endpoint, *, options: Options = PLAIN) -> None:
    async with opened(options.settings()) as db:
        _need(endpoint, found=await endpoints.enable(db, endpoint))
    done(options, f"endpoint {endpoint} receives again, also what has waited")


@command
async def disable(endpoint: Endpoint, *, options: Options = PLAIN) -> None:
    async with opened(options.settings()) as db:
        _need(endpoint, found=await endpoints.disable(db, endpoint, "by an operator"))
    done(options, f"endpoint {endpoint} receives nothing until it is enabled; events wait")


def _event_id(text: str) -> UUID:
    try:
        if text.startswith("evt_"):
            return UUID(bytes=b32decode(text.removeprefix("evt_") + "======"))
        return UUID(text)
    except ValueError:
        raise admin.AdminFailed(f"{text!r} is no id of an event", "copy it from message show") from None


def _need(endpoint: int, *, found: bool) -> None:
    if not found:
        refuse(f"there is no endpoint {endpoint}", "see speedsms webhook list", REFUSED)
