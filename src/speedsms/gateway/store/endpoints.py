"""Endpoints: the URLs of an account that webhooks go to, their secrets and their health (protocol §14.5)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from msgspec import json

from speedsms.gateway.store.db import Connection, Database, fetch
from speedsms.gateway.store.outbox import SHARDS, Sample


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`secrets`: newest first, two while a secret is rotated. `failing_since`: no attempt succeeded since."""

    id: int
    account_id: int
    event: str
    url: str
    secrets: tuple[str, ...]
    legacy_secret: str | None
    enabled: bool
    disabled_why: str | None
    failing_since: datetime | None


_COLUMNS = "id, account_id, event, url, secrets, legacy_secret, enabled, disabled_why, failing_since"


def _endpoint(
    id: int,  # noqa: A002 - the column's name
    account_id: int,
    event: str,
    url: str,
    secrets: list[str],
    *rest: object,
) -> Endpoint:
    return Endpoint(id, account_id, event, url, tuple(secrets), *rest)  # type: ignore[arg-type]  # columns, in order


async def enabled(connection: Connection, shards: Collection[int]) -> list[Endpoint]:
    """All endpoints of these shards that are posted to; listeners ask themselves."""
    rows = await fetch(
        connection,
        f"SELECT {_COLUMNS} FROM endpoint"
        f" WHERE enabled AND listener IS NULL AND id & {SHARDS - 1} = ANY(%(shards)s::int[])",
        {"shards": list(shards)},
    )
    return [_endpoint(*row) for row in rows]


async def of_account(db: Database, account_id: int) -> list[Endpoint]:
    rows = await db.read(
        f"SELECT {_COLUMNS} FROM endpoint WHERE account_id = %(account)s AND listener IS NULL ORDER BY id",
        account=account_id,
    )
    return [_endpoint(*row) for row in rows]


async def add(
    db: Database, account_id: int, event: str, url: str, secret: str, *, legacy_secret: str | None = None
) -> int:
    """A new endpoint for 'report' or 'sms'. The URL went through net.target; the secret is shown once."""
    ((endpoint_id,),) = await db.rows(
        """
        WITH e AS (
            INSERT INTO endpoint (account_id, event, url, secrets, legacy_secret)
            VALUES (%(account)s, %(event)s, %(url)s, ARRAY[%(secret)s::text], %(legacy)s) RETURNING id)
        SELECT id FROM e, pg_notify('config', '')""",
        account=account_id,
        event=event,
        url=url,
        secret=secret,
        legacy=legacy_secret,
    )
    return int(endpoint_id)


async def _change(db: Database, endpoint_id: int, change: str, **params: object) -> bool:
    """Whether there is such an endpoint; every process hears of the change."""
    sql = f"WITH e AS (UPDATE endpoint SET {change} WHERE id = %(endpoint)s RETURNING 1)"
    return bool(await db.rows(f"{sql} SELECT pg_notify('config', '') FROM e", endpoint=endpoint_id, **params))


async def rotate(db: Database, endpoint_id: int, secret: str) -> bool:
    """Sign with a new secret and, until `retire`, with the one before it too."""
    return await _change(db, endpoint_id, "secrets = ARRAY[%(secret)s::text] || secrets[1:1]", secret=secret)


async def retire(db: Database, endpoint_id: int) -> bool:
    """End the overlap of a rotation: only the newest secret signs."""
    return await _change(db, endpoint_id, "secrets = secrets[1:1]")


async def enable(db: Database, endpoint_id: int) -> bool:
    return await _change(db, endpoint_id, "enabled = true, disabled_why = NULL, failing_since = NULL")


async def disable(db: Database, endpoint_id: int, why: str) -> bool:
    """Post nothing more; what is in the outbox waits for `enable`."""
    return await _change(db, endpoint_id, "enabled = false, disabled_why = %(why)s", why=why)


async def mark(connection: Connection, failing_since: Mapping[int, datetime | None]) -> None:
    """Remember since when endpoints fail, or that they do not."""
    await fetch(
        connection,
        """
        UPDATE endpoint e SET failing_since = m.since
        FROM unnest(%(endpoint)s::int[], %(since)s::timestamptz[]) AS m(id, since) WHERE e.id = m.id""",
        {"endpoint": list(failing_since), "since": list(failing_since.values())},
    )


_SAMPLE = """
WITH o AS (
    INSERT INTO outbox (endpoint_id, due, account_id, event_id, kind, subject, status, sequence, phone_form,
        created_at, sample)
    SELECT id, %(now)s, account_id, %(event_id)s, event, 0, %(status)s, 1, 'as_sent', %(now)s, %(sample)s
    FROM endpoint WHERE {which} RETURNING 1)
SELECT pg_notify('outbox', '') FROM o"""


async def send_sample(db: Database, endpoint_id: int, now: datetime) -> bool:
    """Put a sample event into the outbox: tranId 0 or the text `test`. Whether there is such an endpoint."""
    sample = json.encode(Sample()).decode()
    sql = _SAMPLE.format(which="id = %(endpoint)s")
    params = {"now": now, "event_id": uuid4(), "status": 0, "sample": sample, "endpoint": endpoint_id}
    return bool(await db.rows(sql, **params))


async def trigger(
    db: Database, account_id: int, event: str, sample: Sample, now: datetime, *, status: int | None = None
) -> tuple[UUID, int]:
    """Tell an account's endpoints and listeners of what has not happened; the event, and how many they are.

    status: of a report, 0 to 127.
    """
    event_id = uuid4()
    rows = await db.rows(
        _SAMPLE.format(which="account_id = %(account)s AND event = %(event)s AND enabled"),
        now=now,
        event_id=event_id,
        status=status,
        sample=json.encode(sample).decode(),
        account=account_id,
        event=event,
    )
    return event_id, len(rows)
