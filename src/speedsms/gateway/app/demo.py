"""What greets a newcomer: a test account with money, the simulator as its carrier, a line that works."""

import json
import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from speedsms.gateway.config import Settings
from speedsms.gateway.store import admin, ledger, routing
from speedsms.gateway.store.db import Database
from speedsms.gateway.store.routing import PriceRow

_BALANCE_VND: Final = 1_000_000
_PRICES_VND: Final = {1: 400, 2: 250, 3: 300, 4: 350, 5: 100, 6: 270, 7: 320, 8: 330}
_SETUP_LIFE: Final = timedelta(hours=24)


def settings_of(settings: Settings) -> Settings:
    """The demo's receiver of webhooks is on this machine."""
    return msgspec.structs.replace(
        settings, webhooks=msgspec.structs.replace(settings.webhooks, allow_loopback=True)
    )


async def welcome(db: Database, data_dir: Path, base: str, *, demo: bool) -> dict[str, Any]:
    """What is printed and written to the ready file: url, setup_url and, in the demo, the tokens."""
    ready: dict[str, Any] = {"url": base}
    if demo:
        ready |= await _demo_tokens(db, data_dir)
    accounts = await db.read("SELECT count(*) FROM account")
    if demo or not accounts[0][0]:
        ready["setup_url"] = f"{base}/setup?code={await _setup_code(db)}"
    return ready


async def _setup_code(db: Database) -> str:
    code = secrets.token_urlsafe(24)
    await db.execute(
        "INSERT INTO setup_link VALUES (%(hash)s, %(until)s)",
        hash=sha256(code.encode()).digest(),
        until=datetime.now(UTC) + _SETUP_LIFE,
    )
    return code


async def _demo_tokens(db: Database, data_dir: Path) -> dict[str, str]:
    """The demo account's tokens: made once, kept beside the data since the database has only their hashes."""
    kept = data_dir / "demo.json"
    if kept.exists():
        known: dict[str, str] = json.loads(kept.read_text())
        return known
    now = datetime.now(UTC)
    async with db.transaction() as connection:
        account = await admin.create_account(connection, "demo", "demo@example.com")
        await ledger.topup(connection, account, _BALANCE_VND, "demo", now)
        for sms_type, price_vnd in _PRICES_VND.items():
            await routing.set_price(connection, PriceRow("sms", sms_type, "", "", price_vnd, False))
        await routing.set_price(connection, PriceRow("voice", 0, "", "", 400, False))
        await routing.set_price(connection, PriceRow("mms", 0, "", "", 500, False))
        if not await routing.routes(connection):
            await routing.add_route(connection, "simulator")
        tokens = {"token": admin.new_token(), "test_token": admin.new_token(test=True)}
        await admin.add_token(connection, "demo", tokens["token"], name="demo")
        await admin.add_token(connection, "demo", tokens["test_token"], name="demo test", test=True)
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(tokens))
    return tokens


def text(ready: dict[str, Any]) -> str:
    """The same for people."""
    lines = ["", f"  speedsms is ready at {ready['url']}", ""]
    if "token" in ready:
        call = (
            f"curl -u {ready['token']}:x -H 'Content-Type: application/json' "
            """-d '{"to":["0912345678"],"content":"Xin chao","sms_type":2}' """
            f"{ready['url']}/index.php/sms/send"
        )
        lines += [
            f"  token       {ready['token']}   (account demo, charged; everything goes to the simulator)",
            f"  test token  {ready['test_token']}   (never charged; magic numbers)",
            "",
            f"  {call}",
            "",
        ]
    if "setup_url" in ready:
        lines += [f"  set up the first account, once: {ready['setup_url']}", ""]
    lines += ["  Ctrl-C stops it."] if "token" in ready else []
    return "\n".join(lines) + "\n"
