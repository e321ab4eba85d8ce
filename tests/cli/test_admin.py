"""What an operator sets up can be set up twice, and what does not fit is refused with a reason."""

import asyncio
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from speedsms.gateway.store import admin, routing
from speedsms.gateway.store.admin import AdminFailed
from speedsms.gateway.store.routing import PriceRow

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 12, 7, 3, tzinfo=UTC)


@pytest.fixture
async def shop(db):
    async with db.transaction() as connection:
        await admin.create_account(connection, "shop", "shop@example.com")
    return db


async def _do(db, function, *args, **kwargs):
    async with db.transaction() as connection:
        return await function(connection, *args, **kwargs)


async def test_tokens_have_the_published_form():
    """Prefix, 30 random characters, six check characters that prove the rest (protocol §2)."""
    token = admin.new_token(test=True)
    assert token.startswith("ss_test_")
    assert len(token) == 44
    assert admin.check_characters(token[:-6]) == token[-6:]
    assert len({admin.new_token() for _ in range(100)}) == 100


async def test_only_the_hash_of_a_token_is_stored(shop):
    """The database does not hold what would let somebody in."""
    token = admin.new_token()
    first = await _do(shop, admin.add_token, "shop", token)
    assert await _do(shop, admin.add_token, "shop", token) == first
    ((hash_, whole),) = await shop.rows("SELECT hash, token::text FROM token")
    assert hash_ == sha256(token.encode()).digest()
    assert token[8:-4] not in whole


async def test_a_revoked_token_does_not_come_back(shop):
    """Importing it again is refused, and the time of its end stays."""
    token_id = await _do(shop, admin.add_token, "shop", "vecMain0000000000000000000000001")
    await _do(shop, admin.revoke_token, token_id, NOW)
    await _do(shop, admin.revoke_token, token_id, datetime.now(UTC))
    with pytest.raises(AdminFailed, match="revoked"):
        await _do(shop, admin.add_token, "shop", "vecMain0000000000000000000000001")
    assert (await _do(shop, admin.tokens, "shop"))[0].revoked_at == NOW


@pytest.mark.parametrize(
    ("token", "scopes"), [("short", ("send",)), ("with spaces in it 1234", ("send",)), ("a" * 20, ("sned",))]
)
async def test_unfit_tokens_are_refused(shop, token, scopes):
    """A token needs a form that fits into a header, and scopes that exist."""
    with pytest.raises(AdminFailed):
        await _do(shop, admin.add_token, "shop", token, scopes=scopes)
    assert await _do(shop, admin.tokens) == []


async def test_settings_of_an_account_merge(shop):
    """Setting one switch leaves the others; None sets one back; a wrong key changes nothing."""
    await _do(shop, admin.set_account, "shop", {"rate_limit": 120, "text_mode": "tidy"})
    whole = await _do(shop, admin.set_account, "shop", {"text_mode": None, "countries": ["66"]})
    assert (whole.rate_limit, whole.text_mode, whole.countries) == (120, "keep", ("66",))
    for wrong in ({"rate_limit": 0}, {"ratelimit": 5}, {"text_mode": "loud"}, {"enabled_types": [9]}):
        with pytest.raises(AdminFailed, match=next(iter(wrong))):
            await _do(shop, admin.set_account, "shop", wrong)
    ((stored,),) = await shop.rows("SELECT settings FROM account")
    assert stored == {"rate_limit": 120, "countries": ["66"]}


async def test_advertising_needs_an_attestation(shop):
    """Type 1 is enabled only when somebody stands for the recipients' consent (protocol §12)."""
    with pytest.raises(AdminFailed, match="attested"):
        await _do(shop, admin.set_account, "shop", {"enabled_types": [1, 2]})
    whole = await _do(
        shop, admin.set_account, "shop", {"enabled_types": [1, 2], "ads_attested_by": "Lan, 2026-12-01"}
    )
    assert whole.enabled_types == (1, 2)


async def test_a_change_is_announced(shop):
    """Running processes hear of a change when it commits, and not before."""
    connection = await shop.connect()
    await connection.execute("LISTEN config")
    notices = connection.notifies(timeout=60, stop_after=1)
    await _do(shop, admin.block, "shop", blocked=True)
    assert [notice.channel async for notice in notices] == ["config"]
    await connection.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [("TWELVE_CHARS", "no brandname"), ("12345", "no brandname"), ("VIETC0MBANK", "looks like a bank")],
)
async def test_brandnames_that_deceive_are_refused(shop, name, said):
    """Form and reserved names of protocol §8."""
    with pytest.raises(AdminFailed, match=said):
        await _do(shop, admin.add_sender, "shop", "brandname", name)


async def test_look_alike_brandnames_go_to_one_account(shop):
    """Two accounts that register look-alikes at the same moment cannot both have them."""
    await _do(shop, admin.create_account, "other", "other@example.com")
    tried = await asyncio.gather(
        _do(shop, admin.add_sender, "shop", "brandname", "MYSHOP"),
        _do(shop, admin.add_sender, "other", "brandname", "MYSH0P"),
        return_exceptions=True,
    )
    assert [type(result) for result in tried if result] == [AdminFailed]
    assert len(await _do(shop, admin.senders)) == 1


async def test_a_sender_waits_for_approval(shop):
    """Registering again does not approve, and a number is found in any spelling."""
    await _do(shop, admin.add_sender, "shop", "number", "0901000007")
    await _do(shop, admin.set_sender, "shop", "+84 901 000 007", "approved")
    await _do(shop, admin.add_sender, "shop", "number", "84901000007", two_way=True)
    (row,) = await _do(shop, admin.senders)
    assert (row.id, row.status, row.two_way) == ("84901000007", "approved", True)


async def test_a_price_is_replaced(db):
    """One price per kind, type, carrier and country; nonsense is refused."""
    for price_vnd in (250, 260):
        await _do(
            db, routing.set_price, PriceRow("sms", 2, "gmobile", "", price_vnd, refund_on_failure=False)
        )
    assert [row.price_vnd for row in await _do(db, routing.prices)] == [260]
    for wrong in (("sms", 2, "nokia", ""), ("sms", 0, "", ""), ("sms", 0, "", "999")):
        with pytest.raises(AdminFailed):
            await _do(db, routing.set_price, PriceRow(*wrong, 250, refund_on_failure=False))


async def test_routes_and_channels_are_repeatable(db):
    """The same words twice make one channel and one route."""
    made = [await _do(db, routing.add_channel, "a", "sim", {"rate": 1}) for _ in range(2)]
    assert made[0] == made[1]
    routes = [await _do(db, routing.add_route, "a", carriers=["Viettel"], sms_types=[2]) for _ in range(2)]
    assert routes[0] == routes[1]
    await _do(db, routing.set_channel, "a", {"rate": None, "delay_s": 2}, enabled=False)
    row = next(row for row in await _do(db, routing.channels) if row.name == "a")
    assert (row.settings, row.enabled) == ({"delay_s": 2}, False)
    with pytest.raises(AdminFailed, match="another kind"):
        await _do(db, routing.add_channel, "a", "smpp", {})
    with pytest.raises(AdminFailed, match="no channel"):
        await _do(db, routing.add_route, "b")


async def _all(db, function, *args):
    async with db.transaction() as connection:
        return [done async for done in function(connection, *args)]


async def test_lists_load_in_batches_and_wholly(shop):
    """A long list shows progress; a bad line is named and nothing of the list stays."""
    lines = [(f"09{n:08}", "mobifone") for n in range(10_000_000, 10_025_000)]
    assert await _all(shop, routing.load_portability, [*lines, (lines[0][0], "viettel")]) == [
        10_000,
        20_000,
        25_001,
    ]
    ((count, moved),) = await shop.rows(
        "SELECT count(*), min(carrier) FILTER (WHERE carrier <> 'mobifone') FROM portability"
    )
    assert (count, moved) == (25_000, "viettel")
    numbers = ["0912345678\n", "+66812345678\n", "12\n"]
    with pytest.raises(AdminFailed, match="line 3"):
        await _all(shop, routing.load_suppression, "shop", "opt_out", numbers, NOW)
    assert await shop.rows("SELECT 1 FROM suppression") == []
    await _all(shop, routing.load_suppression, "shop", "opt_out", numbers[:2], NOW)
    await _do(shop, routing.remove_suppression, "shop", "0912 345 678")
    assert await shop.rows("SELECT number FROM suppression") == [(66812345678,)]
