"""Webhooks are exactly the bytes of the golden vectors, and a stock verifier accepts them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier

from speedsms.contract import webhook
from speedsms.contract.webhook import Incoming, Report
from speedsms.gateway.channels.smpp import receipt
from speedsms.gateway.channels.smpp.pdu import DeliverSm
from speedsms.gateway.rules import state

VECTORS = json.loads(
    (Path(__file__).parents[1] / "wire" / "vectors" / "webhooks.json").read_text(encoding="utf-8")
)["cases"]
SECRET = webhook.secret_from(bytes(range(32)))


# Ends that are no refusal, or by a hand that this gateway has not.
OTHER_ENDS = {"answered": state.DELIVERED, "opted_out": state.CANCELLED, "removed_by_operator": 72}


def status_of(cause):
    """As the gateway maps it; the fold of a carrier's own TP-Status is that of the statement for receipts."""
    ((kind, value),) = cause.items()
    if kind == "tp_status":
        return state.DELIVERED if value < 32 else value
    if kind == "smpp_stat":
        text = f"id:1 stat:{value} err:000 text:".encode()
        pdu = DeliverSm(esm_class=4, short_message=text)
        return receipt.parse(pdu, receipt.ReceiptRules(), datetime.now(UTC)).status
    if value in OTHER_ENDS:
        return OTHER_ENDS[value]
    return state.RULINGS[{"not_in_service": "number_refused"}.get(value, value)].status


def told(given):
    form = given["phone_form"]
    if incoming := given.get("incoming"):
        return Incoming(incoming["from"], incoming["receiver"], incoming["content"], form)
    message, code = given["message"], status_of(given["cause"])
    if code is None:
        return None
    return Report(
        message["tranId"],
        message["entry"],
        message["e164"],
        code,
        form,
        given["sequence"],
        message["reference"],
    )


def test_there_are_38_vectors():
    """None is lost on the way here."""
    assert len(VECTORS) == 38


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["id"])
def test_vector(case):
    """Body, headers, signatures and what is left out are as written down."""
    given, expect = case["given"], case["expect"]
    event = told(given)
    assert (event is not None) == bool(expect["posts"])
    if event is None:
        return
    assert event.body.decode() == expect["body"]
    headers = webhook.headers(
        event,
        event.body,
        event=given["webhook_id"],
        timestamp=given["timestamp"],
        secrets=given["endpoint"]["secrets"],
        legacy_secret=given["endpoint"]["legacy_secret"],
        agent="speedsms/1",
    )
    lower = {name.lower(): value for name, value in headers.items()}
    assert expect["headers"].items() <= lower.items()
    assert not lower.keys() & set(expect.get("headers_absent", ()))


@given(st.text(max_size=200), st.text(max_size=20), st.sampled_from(["national", "international", "as_sent"]))
def test_any_text_verifies(content, receiver, form):
    """Whatever a phone sends: ASCII JSON with two spaces nowhere, one header line, a signature that holds."""
    event = Incoming("84912345678", receiver, content, form)
    now = int(datetime.now(UTC).timestamp())
    headers = webhook.headers(
        event, event.body, event="evt_x", timestamp=now, secrets=[SECRET], legacy_secret=None, agent="a"
    )
    seen = Verifier(SECRET).verify(event.body, headers)
    assert list(seen.items())[::2] == [("type", "sms"), ("content", content)]
    assert event.body.isascii()
    assert all(value.isascii() and value.isprintable() for value in headers.values())


@given(st.uuids(), st.uuids())
def test_event_names(one, other):
    """26 characters behind `evt_`, and different events have different names."""
    assert len(webhook.event_name(one)) == 30
    assert (webhook.event_name(one) == webhook.event_name(other)) == (one == other)


def test_event_names_are_stable():
    """The id of an event on the wire never changes between releases: receivers keep it."""
    event = UUID("12345678-1234-5678-1234-567812345678")
    assert webhook.event_name(event) == "evt_CI2FM6ASGRLHQERUKZ4BENCWPA"
