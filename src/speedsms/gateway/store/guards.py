"""What a request is held against under its account's lock: state, funds, caps (protocol §11, §12)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from speedsms.contract.ads import VIETNAM_TIME
from speedsms.contract.declined import Declined
from speedsms.gateway.store.accounts import Caller
from speedsms.gateway.store.db import Connection, Database, fetch
from speedsms.gateway.store.messages import Draft
from speedsms.wire import Code, Reason, SmsType

_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Standing:
    """An account as it is now, locked until the transaction ends. available_vnd: balance and credit line."""

    blocked: bool
    api_enabled: bool
    available_vnd: int


async def lock(connection: Connection, account_id: int) -> Standing:
    rows = await fetch(
        connection,
        "SELECT blocked, api_enabled, balance_vnd + credit_vnd FROM account WHERE id = %(id)s FOR UPDATE",
        {"id": account_id},
    )
    return Standing(*rows[0])


async def ads_sent(
    connection: Connection, account_id: int, numbers: Sequence[int], since: datetime
) -> dict[int, int]:
    """How many advertisements each number got from this account after `since`."""
    rows = await fetch(
        connection,
        "SELECT number, count(*) FROM ad_sent WHERE account_id = %(account)s"
        " AND number = ANY(%(numbers)s::bigint[]) AND at > %(since)s GROUP BY number",
        {"account": account_id, "numbers": list(numbers), "since": since},
    )
    return dict(rows)


async def check_caps(connection: Connection, draft: Draft, caller: Caller, now: datetime) -> None:
    """Raises Declined (300 spend_cap) if a cap would be passed: per token and day, per account and minute."""
    day = now.astimezone(VIETNAM_TIME).replace(hour=0, minute=0, second=0, microsecond=0)
    caps = (
        (caller.token.spend_cap_day_vnd, caller.token.id, day, "a day"),
        (caller.account.spend_cap_minute_vnd, None, now - _MINUTE, "a minute"),
    )
    for cap_vnd, token_id, since, span in caps:
        if cap_vnd is None:
            continue
        rows = await fetch(
            connection,
            "SELECT coalesce(sum(amount_vnd), 0)::bigint FROM spend"
            " WHERE account_id = %(account)s AND at >= %(since)s"
            " AND (%(token)s::int IS NULL OR token_id = %(token)s::int)",
            {"account": draft.account_id, "token": token_id, "since": since},
        )
        if rows[0][0] + draft.total_vnd > cap_vnd:
            raise Declined(
                Code.BALANCE, Reason.SPEND_CAP, f"the cap is {cap_vnd} VND {span}; {rows[0][0]} VND are spent"
            )


async def note(connection: Connection, draft: Draft, *, capped: bool, at: datetime) -> None:
    """Write down what later requests are held against."""
    if capped and not draft.test:
        await connection.execute(
            "INSERT INTO spend VALUES (%s, %s, %s, %s)",
            (draft.account_id, draft.token_id, at, draft.total_vnd),
        )
    if draft.sms_type == SmsType.ADVERTISING:
        await connection.execute(
            "INSERT INTO ad_sent SELECT %s, unnest(%s::bigint[]), %s", (draft.account_id, draft.numbers, at)
        )


async def until_reported(db: Database, account_id: int, request: int, within_s: float) -> None:
    """Wait until the first message of a request is final and its webhook was tried (magic number 10)."""
    message = request << 7 | 1
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline:
        rows = await db.read(
            "SELECT EXISTS (SELECT FROM final WHERE account_id = %(account)s AND message = %(message)s)"
            " AND NOT EXISTS (SELECT FROM outbox"
            " WHERE account_id = %(account)s AND subject = %(message)s AND attempt = 0)",
            account=account_id,
            message=message,
        )
        if rows[0][0]:
            return
        await asyncio.sleep(0.05)
