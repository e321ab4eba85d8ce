"""Random PDUs within the standard's limits, and a fixed conversation that holds each kind once."""

from hypothesis import strategies as st

from speedsms.gateway.channels.smpp.pdu import (
    Address,
    AlertNotification,
    Bind,
    BindResp,
    CancelSm,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    Outbind,
    QuerySm,
    QuerySmResp,
    ReplaceSm,
    SubmitSm,
    SubmitSmResp,
)


def text(limit):
    """A C-octet string with its NUL within the limit."""
    return st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=limit - 1)


octet = st.integers(0, 255)
sequence = st.integers(1, 0x7FFFFFFF)
modes = st.sampled_from(["transmitter", "receiver", "transceiver"])
tlvs = st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=300), max_size=5)


def address(limit):
    return st.builds(Address, octet, octet, text(limit))


def message(kind):
    return st.builds(
        kind,
        service_type=text(6),
        source=address(21),
        destination=address(21),
        esm_class=octet,
        protocol_id=octet,
        priority_flag=octet,
        schedule_delivery_time=text(17),
        validity_period=text(17),
        registered_delivery=octet,
        replace_if_present=octet,
        data_coding=octet,
        default_msg_id=octet,
        short_message=st.binary(max_size=254),
        tlvs=tlvs,
    )


def response(kind):
    return st.builds(kind, text(65), tlvs)


KINDS = {
    Bind: st.builds(Bind, modes, text(16), text(65), text(13), octet, address(41)),
    BindResp: st.builds(BindResp, modes, text(16), tlvs),
    SubmitSm: message(SubmitSm),
    SubmitSmResp: response(SubmitSmResp),
    DeliverSm: message(DeliverSm),
    DeliverSmResp: response(DeliverSmResp),
    DataSm: st.builds(DataSm, text(6), address(65), address(65), octet, octet, octet, tlvs),
    DataSmResp: response(DataSmResp),
    QuerySm: st.builds(QuerySm, text(65), address(21)),
    QuerySmResp: st.builds(QuerySmResp, text(65), text(17), octet, octet),
    CancelSm: st.builds(CancelSm, text(6), text(65), address(21), address(21)),
    ReplaceSm: st.builds(
        ReplaceSm, text(65), address(21), text(17), text(17), octet, octet, st.binary(max_size=254)
    ),
    AlertNotification: st.builds(AlertNotification, address(65), address(65), tlvs),
    Outbind: st.builds(Outbind, text(16), text(9)),
}
anything = st.one_of(*KINDS.values())

SHOP, PHONE = Address(5, 0, "SPEEDSMS"), Address(1, 1, "84912345678")
RECEIPT = (
    b"id:7220bb6b-41 sub:001 dlvrd:001 submit date:2611221200 done date:2611221201 stat:DELIVRD err:000 text:"
)
CONVERSATION = (
    Outbind("carrier", "secret"),
    *(
        Bind(mode, "gateway", "secret", "sms", 0x34, Address(1, 1, "84"))
        for mode in ("receiver", "transmitter")
    ),
    *(BindResp(mode, "carrier", {0x0210: b"\x34"}) for mode in ("receiver", "transmitter")),
    Bind("transceiver", "gateway", "secret"),
    BindResp("transceiver", "carrier"),
    SubmitSm(
        "CMT",
        SHOP,
        PHONE,
        validity_period="000000000500000R",
        registered_delivery=1,
        short_message=b"Your code is 123456",
    ),
    SubmitSm("", SHOP, PHONE, 0x40, data_coding=8, short_message=bytes.fromhex("0500030702010041")),
    SubmitSm(
        "", SHOP, PHONE, data_coding=8, tlvs={0x0204: b"\0\7", 0x0424: "Chào bạn".encode("utf-16-be") * 99}
    ),
    SubmitSmResp("7220bb6b-41"),
    DeliverSm(
        "",
        PHONE,
        SHOP,
        0x04,
        short_message=RECEIPT,
        tlvs={0x001E: b"7220bb6b-41\0", 0x0427: b"\2", 0x0423: b"\3\0\0"},
    ),
    DeliverSmResp(),
    DataSm("", PHONE, SHOP, 0x04, tlvs={0x001E: b"7220bb6b-41\0", 0x0427: b"\5"}),
    DataSmResp("", {0x001D: b"stored\0"}),
    QuerySm("7220bb6b-41", SHOP),
    QuerySmResp("7220bb6b-41", "261122120100000+", 2, 0),
    CancelSm("CMT", "7220bb6b-41", SHOP, PHONE),
    ReplaceSm("7220bb6b-41", SHOP, "", "", 1, 0, b"again"),
    AlertNotification(PHONE, SHOP, {0x0422: b"\0"}),
)
