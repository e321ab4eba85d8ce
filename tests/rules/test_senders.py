"""Types and senders answer as the golden vectors over HTTP do (protocol §8)."""

import json
from pathlib import Path

import pytest

from speedsms.contract.declined import Declined
from speedsms.contract.senders import (
    DEFAULT_MAX_PARTS,
    VALIDITY_S,
    Allowed,
    Lane,
    Sender,
    SenderKind,
    SenderStatus,
    lane_of,
    resolve,
    usable,
)
from speedsms.wire import Code, Kind, Reason, SmsType

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
ACCOUNTS = json.loads((VECTORS / "preconditions.json").read_text(encoding="utf8"))["accounts"]
CASES = json.loads((VECTORS / "senders.json").read_text(encoding="utf8"))["cases"]
GROUP = Sender(SenderKind.GROUP, "shop")
DEVICE = Sender(SenderKind.DEVICE, "a1b2c3d4e5f60718")


def sender_of(row):
    return Sender(
        SenderKind(row["kind"]),
        row["id"],
        SenderStatus(row["status"]),
        gsm_only=row.get("gsm_only", False),
        ad=row.get("class") == "ad",
        two_way=row.get("two_way", False),
        mms=row.get("mms", False),
    )


def allowed_of(preconditions):
    account = next(a for a in ACCOUNTS if a["name"] == preconditions["account"]) | preconditions.get(
        "set", {}
    )
    types = frozenset(map(SmsType, account["enabled_types"]))
    return Allowed(types, usable(map(sender_of, account["senders"])), account["default_shared_sender"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_senders(case):
    """Each request of the golden vectors gets its sender, class and life, or *sender not found*."""
    body = json.loads(case["steps"][0]["request"]["body"])
    sms_type, written = SmsType(body["sms_type"]), str(body.get("sender", ""))
    allowed = allowed_of(case["preconditions"])
    if "x-speedsms-reason" in case["steps"][0]["expect"].get("headers", {}):
        assert refused(sms_type, written, allowed)
        return
    sender = resolve(sms_type, written, allowed)
    stored = case["effects"]["stored"][0]
    lane = lane_of(Kind.SMS, sms_type, sender.id, len(body["to"]))
    found = {"sender": sender.id, "class": lane.name.lower(), "validity_s": VALIDITY_S[lane]}
    assert {key: found[key] for key in found if key in stored} == {
        key: stored[key] for key in found if key in stored
    }


def refused(product, written, allowed):
    with pytest.raises(Declined) as declined:
        resolve(product, written, allowed)
    assert (declined.value.code, declined.value.reason) == (Code.BAD_PARAMETERS, Reason.SENDER_NOT_FOUND)
    return declined.value.detail


def test_a_device_names_its_slot():
    """`id:2` is the second SIM of a registered device; a group and an unknown device have no slots."""
    allowed = Allowed(frozenset({SmsType.DEVICE}), usable([DEVICE, GROUP]))
    assert resolve(SmsType.DEVICE, "a1b2c3d4e5f60718:2", allowed).id == "a1b2c3d4e5f60718:2"
    assert resolve(SmsType.DEVICE, "shop", allowed) is GROUP
    for written in ("shop:1", "a1b2c3d4e5f60718:0", "a1b2c3d4e5f60718:", "ffffffffffffffff:1", ":1"):
        assert refused(SmsType.DEVICE, written, allowed)


def test_a_default_group_stands_in_for_no_sender():
    """Type 5 without sender goes to the account's default group, if it has one."""
    types, senders = frozenset({SmsType.DEVICE}), usable([GROUP])
    assert resolve(SmsType.DEVICE, "", Allowed(types, senders, default_group="shop")) is GROUP
    assert "needs a sender" in refused(SmsType.DEVICE, "", Allowed(types, senders))


def test_mms_needs_a_device_that_carries_it():
    """`mms/send` takes a device with MMS, whatever SMS types are enabled, and no default group."""
    carries = Sender(SenderKind.DEVICE, "mms-phone", mms=True)
    allowed = Allowed(frozenset(), usable([carries, DEVICE, GROUP]), default_group="shop")
    assert resolve(Kind.MMS, "mms-phone", allowed) is carries
    for written in (DEVICE.id, "shop", ""):
        assert refused(Kind.MMS, written, allowed)


@pytest.mark.parametrize("status", [s for s in SenderStatus if s is not SenderStatus.APPROVED])
@pytest.mark.parametrize("kind", SenderKind)
def test_only_approved_senders_are_usable(kind, status):
    """A pending, suspended or revoked sender can send nothing."""
    assert usable([Sender(kind, "x", status)]) == usable([])


def test_a_sender_of_over_64_characters_is_not_found():
    """Not even as a spelling of a registered number."""
    number = Sender(SenderKind.NUMBER, "84901000007")
    allowed = Allowed(frozenset({SmsType.OWN_NUMBER}), usable([number]))
    assert resolve(SmsType.OWN_NUMBER, "+84 901 000 007".ljust(64), allowed) is number
    assert refused(SmsType.OWN_NUMBER, "+84 901 000 007".ljust(65), allowed)


@pytest.mark.parametrize(
    ("kind", "sms_type", "sender", "messages", "lane"),
    [
        (Kind.PIN, SmsType.BRANDNAME, "ACME", 1, Lane.OTP),
        (Kind.SMS, SmsType.SHARED_BRANDNAME, "Verify", 1, Lane.OTP),
        (Kind.SMS, SmsType.SHARED_BRANDNAME, "Verify", 2, Lane.TRANSACTIONAL),
        (Kind.SMS, SmsType.SHARED_BRANDNAME, "Notify", 1, Lane.TRANSACTIONAL),
        (Kind.SMS, SmsType.BRANDNAME, "Verify", 1, Lane.TRANSACTIONAL),
        (Kind.VOICE, None, "", 1, Lane.VOICE),
        (Kind.SMS, SmsType.ADVERTISING, "ACME", 1, Lane.BULK),
        (Kind.SMS, SmsType.RANDOM_NUMBER, "", 10, Lane.TRANSACTIONAL),
        (Kind.SMS, SmsType.RANDOM_NUMBER, "", 11, Lane.BULK),
        (Kind.MMS, None, "phone", 11, Lane.BULK),
    ],
)
def test_lanes(kind, sms_type, sender, messages, lane):
    """Codes go first, advertisements and calls of more than ten messages last."""
    assert lane_of(kind, sms_type, sender, messages) is lane


def test_default_limits_of_parts():
    """Brandname types take three parts, the others six."""
    assert {t for t, parts in DEFAULT_MAX_PARTS.items() if parts == 3} == {1, 3, 4}
    assert {t for t, parts in DEFAULT_MAX_PARTS.items() if parts == 6} == {2, 5, 6, 7, 8}
