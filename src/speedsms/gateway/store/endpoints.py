"""Endpoints: the URLs of an account that webhooks go to, their secrets and their health (protocol §14.5)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from speedsms.gateway.store.db import Connection, Database, fetch
from speedsms.gateway.store.outbox import SAMPLE, SHARDS


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
    """All endpoints of these shards that receive."""
    rows = await fetch(
        connection,
        f"SELECT {_COLUMNS} FROM endpoint WHERE enabled AND id & {SHARDS - 1} = ANY(%(shards)s::int[])",
        {"shards": list(shards)},
    )
    return [_endpoint(*row) for row in rows]


async def of_account(db: Database, account_id: int) -> list[Endpoint]:
    rows = await db.read(
        f"SELECT {_COLUMNS} FROM endpoint WHERE account_id = %(account)s ORDER BY id", account=account_id
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


async def send_sample(db: Database, endpoint_id: int, now: datetime) -> bool:
    """Put a sample event into the outbox: tranId 0 or the text `test`. Whether there is such an endpoint."""
    return bool(
        await db.rows(
            f"""
            WITH o AS (
                INSERT INTO outbox (endpoint_id, due, account_id, kind, subject, status, sequence, phone_form,
                    created_at)
                SELECT id, %(now)s, account_id, event, {SAMPLE}, 0, 1, 'national', %(now)s FROM endpoint
                WHERE id = %(endpoint)s RETURNING 1)
            SELECT pg_notify('outbox', '') FROM o""",
            endpoint=endpoint_id,
            now=now,
        )
    )
