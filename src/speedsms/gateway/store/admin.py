"""Accounts, tokens and senders, as an operator sets them up. Every call may be repeated.

Every function takes a connection inside a transaction; `changed` tells the running processes to read again.
"""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from psycopg.types.json import Jsonb

from speedsms.gateway.rules.brandnames import BrandnameFault, brandname_fault, skeleton
from speedsms.gateway.store.db import Connection, Row, fetch
from speedsms.gateway.store.failed import StoreFailed
from speedsms.numbers import parse

SCOPES: Final = ("info", "send", "voice", "pin", "status", "mms")
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_IMPORTED: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_ROWS_AT_ONCE: Final = 10_000


class AdminFailed(StoreFailed):
    """Nothing was changed."""


class AccountSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """`account.settings`: the switches of protocol §17 of an account; absent keys have these defaults."""

    rate_limit: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Requests allowed in any 60 seconds.")
    ] = 60
    enabled_types: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=8)], ...], Meta(description="Values of `sms_type` it may use.")
    ] = (2, 3, 4, 5, 6, 7, 8)
    ads_attested_by: Annotated[
        str,
        Meta(description="Who attested, and when, that recipients of type 1 consented; needed for type 1."),
    ] = ""
    default_shared_sender: Annotated[
        Literal["Notify", "Verify"], Meta(description="The brandname of type 4 without a sender.")
    ] = "Notify"
    default_group: Annotated[str, Meta(description="The device group of type 5 without a sender.")] = ""
    text_mode: Annotated[
        Literal["keep", "tidy", "unaccent"], Meta(description="What is done to save parts (protocol §10.1).")
    ] = "keep"
    percent_decode: Annotated[
        bool, Meta(description="Decode texts that a client percent-encoded inside JSON (protocol §4.5).")
    ] = True
    raw_utf8_101: Annotated[
        bool,
        Meta(description="Refuse raw UTF-8 in JSON, as the vendor was seen to do; for tests of clients."),
    ] = False
    phone_form: Annotated[
        Literal["national", "international", "as_sent"],
        Meta(description="How numbers are written in webhooks and `sms/status`."),
    ] = "national"
    ads_label: Annotated[
        Literal["require", "prepend", "operator"],
        Meta(description="Who puts label and opt-out text on advertisements (protocol §12)."),
    ] = "require"
    ads_allow_other_types: Annotated[
        bool, Meta(description="Accept texts that begin with [QC] or [AD] in types 2 to 8.")
    ] = False
    countries: Annotated[
        tuple[str, ...],
        Meta(description="Calling codes it may write to, such as 66; * opens all but costly ones."),
    ] = ()
    spend_cap_minute_vnd: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="The most it may spend in a minute, in VND.")
    ] = None
    voice_allow_fixed: Annotated[bool, Meta(description="Allow voice calls to fixed lines.")] = False

    def __post_init__(self) -> None:
        if 1 in self.enabled_types and not self.ads_attested_by:
            raise ValueError(
                "type 1 needs `ads_attested_by`: who attested, and when, that recipients consented"
            )


@dataclass(frozen=True, slots=True)
class AccountRow:
    id: int
    name: str
    email: str
    balance_vnd: int
    credit_vnd: int
    blocked: bool
    api_enabled: bool
    settings: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TokenRow:
    id: int
    account: str
    hint: str
    name: str
    scopes: list[str]
    allow_ip: list[str]
    test: bool
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class SenderRow:
    account: str
    kind: str
    id: str
    class_: str
    status: str
    gsm_only: bool
    two_way: bool
    mms: bool


async def changed(connection: Connection) -> None:
    """Running processes forget what they remember of the configuration, once this commits."""
    await fetch(connection, "SELECT pg_notify('config', '')")


# ---------------------------------------------------------------- accounts


async def account_id(connection: Connection, name: str) -> int:
    """Of the account called `name`; raises AdminFailed."""
    return int(
        await one(connection, "SELECT id FROM account WHERE name = %(name)s", f"account {name}", name=name)
    )


async def create_account(connection: Connection, name: str, email: str, credit_vnd: int = 0) -> int:
    """The id of the account, new or already there with the same e-mail address. Raises AdminFailed."""
    if not re.fullmatch(r"[\w.@-]{1,64}", name):
        raise AdminFailed(f"{name!r} is no name", "use 1 to 64 letters, digits and . _ @ -")
    if credit_vnd < 0:
        raise AdminFailed("a credit line is not below 0", "name 0 or more")
    await fetch(
        connection,
        """INSERT INTO account (name, email, credit_vnd) VALUES (%(name)s, %(email)s, %(credit)s)
           ON CONFLICT DO NOTHING""",
        {"name": name, "email": email, "credit": credit_vnd},
    )
    sql = "SELECT id FROM account WHERE name = %(name)s AND email = %(email)s"
    if rows := await fetch(connection, sql, {"name": name, "email": email}):
        await changed(connection)
        return int(rows[0][0])
    raise AdminFailed(f"account {name} exists with another e-mail address", "choose another name")


async def accounts(connection: Connection) -> list[AccountRow]:
    """All of them, by id."""
    sql = """SELECT id, name, email, balance_vnd, credit_vnd, blocked, api_enabled, settings, created_at
             FROM account ORDER BY id"""
    return [AccountRow(*row) for row in await fetch(connection, sql)]


async def block(connection: Connection, name: str, *, blocked: bool) -> None:
    """A blocked account is answered 008. Raises AdminFailed."""
    await change_one(
        connection,
        "UPDATE account SET blocked = %(b)s WHERE name = %(name)s",
        f"account {name}",
        b=blocked,
        name=name,
    )


async def set_account(
    connection: Connection,
    name: str,
    settings: Mapping[str, Any],
    *,
    api_enabled: bool | None = None,
    credit_vnd: int | None = None,
) -> AccountSettings:
    """Merges `settings` (of AccountSettings); None sets back a default. Raises AdminFailed naming the key."""
    sql = "SELECT settings FROM account WHERE name = %(name)s FOR UPDATE"
    stored = await one(connection, sql, f"account {name}", name=name)
    wanted = {key: value for key, value in {**stored, **settings}.items() if value is not None}
    try:
        whole = msgspec.convert(wanted, AccountSettings, strict=False)
    except msgspec.ValidationError as error:
        raise AdminFailed(str(error).replace(" - at `$.", " - at `"), "correct that setting") from None
    await change_one(
        connection,
        """UPDATE account SET settings = %(settings)s, api_enabled = coalesce(%(api)s, api_enabled),
                              credit_vnd = coalesce(%(credit)s, credit_vnd) WHERE name = %(name)s""",
        f"account {name}",
        settings=Jsonb(msgspec.to_builtins(whole)),
        api=api_enabled,
        credit=credit_vnd,
        name=name,
    )
    return whole


# ---------------------------------------------------------------- tokens


def new_token(*, test: bool = False) -> str:
    """178 random bits, and six characters by which a token found somewhere is recognised (protocol §2)."""
    body = ("ss_test_" if test else "ss_live_") + "".join(secrets.choice(_BASE62) for _ in range(30))
    return body + check_characters(body)


def check_characters(body: str) -> str:
    """CRC-32 in six base62 digits."""
    number, characters = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        characters = _BASE62[digit] + characters
    return characters


async def add_token(
    connection: Connection,
    account: str,
    token: str,
    *,
    name: str = "",
    scopes: Iterable[str] = SCOPES,
    allow_ip: Iterable[str] = (),
    allow_query_token: bool = True,
    duplicate_window_s: int = 0,
    spend_cap_day_vnd: int | None = None,
    text_mode: str | None = None,
    test: bool = False,
) -> int:
    """Stores only the hash of `token`, made by `new_token` or brought along. Repeating it changes nothing.

    Raises AdminFailed: no such account, unfit token, unknown scope, token of another account.
    """
    if not _IMPORTED.fullmatch(token):
        raise AdminFailed("the token has an unfit form", "import 16 to 128 letters, digits, _ or -")
    if unknown := set(scopes) - set(SCOPES):
        raise AdminFailed(f"unknown scope {min(unknown)}", f"choose among {', '.join(SCOPES)}")
    owner = await account_id(connection, account)
    params = {
        "account": owner,
        "hash": hashlib.sha256(token.encode()).digest(),
        "hint": f"{token[:8] if token.startswith('ss_') else ''}…{token[-4:]}",
        "name": name,
        "scopes": list(scopes),
        "ips": list(allow_ip),
        "query": allow_query_token,
        "window": duplicate_window_s,
        "cap": spend_cap_day_vnd,
        "mode": text_mode,
        "test": test,
    }
    await fetch(
        connection,
        """INSERT INTO token (account_id, hash, hint, name, scopes, allow_ip, allow_query_token,
                              duplicate_window_s, spend_cap_day_vnd, text_mode, test)
           VALUES (%(account)s, %(hash)s, %(hint)s, %(name)s, %(scopes)s, %(ips)s, %(query)s,
                   %(window)s, %(cap)s, %(mode)s, %(test)s) ON CONFLICT (hash) DO NOTHING""",
        params,
    )
    sql = "SELECT id FROM token WHERE hash = %(hash)s AND account_id = %(account)s AND revoked_at IS NULL"
    if rows := await fetch(connection, sql, params):
        await changed(connection)
        return int(rows[0][0])
    raise AdminFailed("the token is revoked or belongs to another account", "make a new one")


async def tokens(connection: Connection, account: str | None = None) -> list[TokenRow]:
    """Of one account or of all, the revoked ones too."""
    sql = """SELECT t.id, a.name, hint, t.name, scopes, allow_ip, test, t.created_at, revoked_at
             FROM token t JOIN account a ON a.id = account_id
             WHERE a.name = coalesce(%(account)s::text, a.name) ORDER BY t.id"""
    return [TokenRow(*row) for row in await fetch(connection, sql, {"account": account})]


async def revoke_token(connection: Connection, token_id: int, at: datetime) -> None:
    """From now on it is answered 401; revoking again keeps the first time. Raises AdminFailed."""
    sql = "UPDATE token SET revoked_at = coalesce(revoked_at, %(at)s) WHERE id = %(id)s"
    await change_one(connection, sql, f"token {token_id}", at=at, id=token_id)


# ---------------------------------------------------------------- senders


async def add_sender(
    connection: Connection,
    account: str,
    kind: Literal["brandname", "device", "number"],
    sender: str,
    *,
    class_: Literal["care", "ad"] = "care",
    gsm_only: bool = False,
    two_way: bool = False,
    mms: bool = False,
    allow_space: bool = False,
) -> None:
    """Registers it as *pending*. Raises AdminFailed: form, reserved name, look-alike of another account's."""
    owner = await account_id(connection, account)
    if kind == "brandname":
        await _refuse_brandname(connection, owner, sender, allow_space=allow_space)
    if kind == "number":
        number = parse(sender)
        if number is None:
            raise AdminFailed(f"{sender!r} is no mobile number", "write it as 0912345678")
        sender = number.e164
    await fetch(
        connection,
        """INSERT INTO sender (account_id, kind, id, class, gsm_only, two_way, mms, skeleton)
           VALUES (%(account)s, %(kind)s, %(id)s, %(class)s, %(gsm)s, %(two_way)s, %(mms)s, %(skeleton)s)
           ON CONFLICT (account_id, kind, id) DO UPDATE
           SET class = excluded.class, gsm_only = excluded.gsm_only, two_way = excluded.two_way,
               mms = excluded.mms""",
        {
            "account": owner,
            "kind": kind,
            "id": sender,
            "class": class_,
            "gsm": gsm_only,
            "two_way": two_way,
            "mms": mms,
            "skeleton": skeleton(sender) if kind == "brandname" else "",
        },
    )
    await changed(connection)


async def set_sender(
    connection: Connection, account: str, sender: str, status: Literal["approved", "suspended", "revoked"]
) -> None:
    """Only an approved sender can be used. Raises AdminFailed."""
    sql = """UPDATE sender SET status = %(status)s
             WHERE (id = %(id)s OR kind = 'number' AND id = %(number)s)
             AND account_id = (SELECT id FROM account WHERE name = %(account)s)"""
    number = parse(sender)
    params = {"status": status, "id": sender, "number": number.e164 if number else "", "account": account}
    await change_one(connection, sql, f"sender {sender} of {account}", **params)


async def senders(connection: Connection, account: str | None = None) -> list[SenderRow]:
    """Of one account or of all."""
    sql = """SELECT a.name, kind, s.id, class, status, gsm_only, two_way, mms
             FROM sender s JOIN account a ON a.id = account_id
             WHERE a.name = coalesce(%(account)s::text, a.name) ORDER BY a.name, kind, s.id"""
    return [SenderRow(*row) for row in await fetch(connection, sql, {"account": account})]


async def _refuse_brandname(connection: Connection, owner: int, name: str, *, allow_space: bool) -> None:
    # The table is locked, because two accounts could register look-alikes at the same moment.
    await connection.execute("LOCK TABLE sender IN SHARE ROW EXCLUSIVE MODE")
    sql = "SELECT skeleton FROM sender WHERE kind = 'brandname' AND account_id <> %(owner)s"
    taken = {row[0] for row in await fetch(connection, sql, {"owner": owner})}
    match brandname_fault(name, taken, allow_space=allow_space):
        case BrandnameFault.FORM:
            raise AdminFailed(
                f"{name!r} is no brandname", "use 1 to 11 of A-Z a-z 0-9 . _ - with at least one letter"
            )
        case BrandnameFault.RESERVED:
            raise AdminFailed(f"{name} looks like a bank, an authority or a carrier", "choose another name")
        case BrandnameFault.TAKEN:
            raise AdminFailed(f"{name} looks like another account's brandname", "choose another name")


async def one(connection: Connection, sql: str, what: str, **params: Any) -> Any:
    rows = await fetch(connection, sql, params)
    if not rows:
        raise AdminFailed(f"there is no {what}", "see the list")
    return rows[0][0]


async def change_one(connection: Connection, sql: str, what: str, **params: Any) -> Row:
    rows = await fetch(connection, f"{sql} RETURNING 1", params)
    if not rows:
        raise AdminFailed(f"there is no {what}", "see the list")
    await changed(connection)
    return rows[0]
