"""Read-only questions of `user/info` and `sms/status`."""

from speedsms.gateway.rules.state import DELIVERED
from speedsms.gateway.store.accounts import Account
from speedsms.gateway.store.db import Database
from speedsms.numbers import VIETNAM
from speedsms.wire import Progress

_STATUS = """
SELECT m.number, m.entry, n.status, EXISTS (SELECT FROM flight f WHERE f.message = m.id)
FROM request q
JOIN message m ON m.account_id = q.account_id AND m.id BETWEEN q.id << 7 AND (q.id << 7) + 127
LEFT JOIN final n ON n.account_id = m.account_id AND n.message = m.id
WHERE q.tran_id = %(tran_id)s AND q.account_id = %(account)s ORDER BY q.id DESC, m.id
"""


async def balance(db: Database, account_id: int) -> int:
    """What can be spent now, in VND: holds deducted, credit line not added (protocol D18)."""
    rows = await db.read("SELECT balance_vnd FROM account WHERE id = %(id)s", id=account_id)
    return int(rows[0][0])


async def status(db: Database, account: Account, tran_id: int) -> list[tuple[str, int]] | None:
    """Phone and state of each message in order of acceptance; None if the account has no such request
    (§5.6).
    """
    rows = await db.read(_STATUS, tran_id=tran_id, account=account.id)
    return [
        (phone(str(number), entry, account.phone_form), _progress(final, flying))
        for number, entry, final, flying in rows
    ] or None


def phone(e164: str, entry: str, form: str) -> str:
    """A number as the account wants to see it (protocol §9.5)."""
    if form == "as_sent":
        return entry
    return "0" + e164[2:] if form == "national" and e164.startswith(VIETNAM) else e164


def _progress(final: int | None, flying: bool) -> int:
    if final is None:
        return int(Progress.SENT if flying else Progress.PENDING)
    return int(Progress.DELIVERED if final == DELIVERED else Progress.FAILED)
