"""What the simulated carrier says on its own: receipts and messages of handsets (channels §3.12, §3.14)."""

import pytest
from esme import bound, carriers, id_of, text_of

from speedsms.gateway.channels.smpp.pdu import (
    Address,
    CancelSm,
    DataSm,
    DeliverSm,
    QuerySm,
    ReplaceSm,
    Status,
    Tag,
)
from speedsms.gateway.channels.smpp.smsc import Deliver, Play, Receipt, Rule, Script, Speech
from speedsms.gateway.channels.smpp.smsc.shapes import SHAPES
from speedsms.gateway.rules import alphabet

pytestmark = pytest.mark.anyio
TO = "84912345678"


@pytest.fixture
async def carrier():
    async with carriers() as start:
        yield start


# --- Receipts ---


async def test_receipts_only_for_those_who_ask(carrier):
    """registered_delivery 0 none, 1 all, 2 failures only; 0x10 intermediate notifications too."""
    states = (Receipt(state="ENROUTE", after_s=0, intermediate=True), Receipt(state="UNDELIV", err="001"))
    smsc = await carrier(
        Script(play=Play(receipts=states), rules=(Rule(number="84900000000", receipts=(Receipt(),)),))
    )
    esme = await bound(smsc)
    for registered in (0, 2, 0x11):
        esme.submit(registered=registered, key=registered)
    esme.submit("84900000000", registered=2)
    esme.submit("84900000000", registered=1)
    frames = await esme.asked(4)
    assert sorted(f.pdu.esm_class for f in frames) == [4, 4, 4, 0x20]
    assert sorted(text_of(f).partition("stat:")[2].split()[0] for f in frames) == [
        *("DELIVRD", "ENROUTE", "UNDELIV", "UNDELIV")
    ]


async def test_receipts_before_the_response(carrier):
    """Each overtakes its response by the time the script says, which holds the response back."""
    smsc = await carrier(Script(play=Play(receipts=(Receipt(after_s=-0.03),))))
    esme = await bound(smsc)
    esme.submit()
    await esme.answered()
    assert [type(event).__name__ for event in esme.events] == ["Bound", "Asked", "Answered"]
    assert id_of(esme.frames[0]) == esme.answers[0].frame.pdu.message_id


async def test_receipts_five_times_and_contradicting(carrier):
    """As often as the script says, in the script's order, the TLV saying other than the text if wanted."""
    receipts = (
        Receipt(times=5, after_s=0),
        Receipt(state="UNDELIV", tlv_state="EXPIRED", err="0aX", network_error="03001f", after_s=0.02),
    )
    smsc = await carrier(Script(play=Play(receipts=receipts)))
    esme = await bound(smsc)
    esme.submit()
    frames = await esme.asked(6)
    assert ["DELIVRD" in text_of(f) for f in frames] == [True] * 5 + [False]
    assert len({text_of(f) for f in frames[:5]}) == 1
    last = frames[5].pdu
    assert (last.tlvs[Tag.MESSAGE_STATE], last.tlvs[Tag.NETWORK_ERROR_CODE]) == (b"\x03", b"\x03\x00\x1f")
    assert b"stat:UNDELIV err:0aX" in last.short_message


@pytest.mark.parametrize(
    ("receipt", "octets", "tags"),
    [
        (Receipt(carry="tlv"), 0, {Tag.RECEIPTED_MESSAGE_ID, Tag.MESSAGE_STATE}),
        (Receipt(carry="text"), 1, set()),
        (
            Receipt(place="payload"),
            0,
            {Tag.RECEIPTED_MESSAGE_ID, Tag.MESSAGE_STATE, Tag.MESSAGE_PAYLOAD},
        ),
        (Receipt(carry="text", pdu="data_sm"), None, {Tag.MESSAGE_PAYLOAD}),
        (Receipt(carry="tlv", pdu="data_sm"), None, {Tag.RECEIPTED_MESSAGE_ID, Tag.MESSAGE_STATE}),
    ],
)
async def test_receipts_stand_where_the_script_says(carrier, receipt, octets, tags):
    """Text or TLVs alone or both, in short_message or message_payload, as deliver_sm or data_sm."""
    smsc = await carrier(Script(play=Play(receipts=(receipt,))))
    esme = await bound(smsc)
    esme.submit()
    (frame,) = await esme.asked()
    assert set(frame.pdu.tlvs) == tags
    assert isinstance(frame.pdu, DataSm if octets is None else DeliverSm)
    assert octets is None or bool(frame.pdu.short_message) == bool(octets)
    await smsc.until(lambda: smsc.counts["receipts_acknowledged"])


@pytest.mark.parametrize("shape", [*SHAPES, "{id}|{state}|{done14}"])
async def test_receipts_are_worded_as_their_shape(carrier, shape):
    """Each shape bears what its template names, and no brace is left."""
    smsc = await carrier(Script(play=Play(receipts=(Receipt(shape=shape, carry="text"),))))
    esme = await bound(smsc)
    esme.submit()
    (frame,) = await esme.asked()
    text, template = text_of(frame), SHAPES.get(shape, shape)
    assert "{" not in text
    assert ("{id}" in template) == (esme.answers[0].frame.pdu.message_id in text)
    assert ("{state}" in template) == ("DELIVRD" in text)


async def test_receipts_in_ucs2(carrier):
    """The text of a receipt may come in UTF-16."""
    smsc = await carrier(Script(play=Play(receipts=(Receipt(coding="ucs2", carry="text"),))))
    esme = await bound(smsc)
    esme.submit()
    (frame,) = await esme.asked()
    assert frame.pdu.data_coding == 8
    assert frame.pdu.short_message.decode("utf-16-be").startswith("id:")


async def test_receipts_on_another_bind(carrier):
    """`other` prefers any bind of the account but the one that submitted, and no bind of another account."""
    smsc = await carrier(Script(play=Play(receipts=(Receipt(bind="other"),))))
    first, second, foreign = await bound(smsc), await bound(smsc), await bound(smsc, system_id="else")
    first.submit()
    await second.asked()
    assert (first.frames, foreign.frames) == ([], [])


async def test_a_pair_of_binds(carrier):
    """A transmitter's receipts come to the receiver of its account."""
    smsc = await carrier()
    sending, receiving = await bound(smsc, "transmitter"), await bound(smsc, "receiver")
    sending.submit()
    await receiving.asked()
    assert sending.frames == []


async def test_receipts_wait_for_a_bind(carrier):
    """What was not answered when the connection went comes to the next bind, even of a new start."""
    smsc = await carrier(Script(play=Play(receipts=(Receipt(after_s=0),))))
    esme = await bound(smsc, answer_status=None)
    esme.submit()
    await esme.asked()
    esme.transport.abort()
    await smsc.until(lambda: not smsc.connections)
    assert smsc.undelivered == 1
    await smsc.stop()
    smsc.port = await smsc.start()
    again = await bound(smsc)
    assert text_of((await again.asked())[0]) == text_of(esme.frames[0])
    await smsc.until(lambda: smsc.counts["receipts_acknowledged"] == 1)


async def test_receipts_are_repeated_after_a_temporary_error(carrier):
    """0x64 brings it again, a permanent error does not."""
    smsc = await carrier(Script(deliver=Deliver(retry_s=0.01)))
    esme = await bound(smsc, answer_status=Status.RX_T_APPN)
    esme.submit()
    await esme.asked(3)
    esme.answer_status = Status.RX_P_APPN
    await smsc.until(lambda: smsc.counts["receipts_refused"] == 1)
    assert smsc.counts["receipts_repeated"] >= 2


async def test_query_and_cancel(carrier):
    """A message on its way is known and can be cancelled, which its receipt tells; after that it is not."""
    smsc = await carrier(Script(play=Play(receipts=(Receipt(after_s=60),))))
    esme = await bound(smsc)
    esme.submit()
    message_id = (await esme.answered())[0].frame.pdu.message_id
    for pdu in (QuerySm(message_id), CancelSm(message_id=message_id), QuerySm(message_id), CancelSm()):
        esme.request(pdu)
    esme.request(ReplaceSm(message_id))
    found = (await esme.answered(6))[1:]
    expected = [0, 0, Status.RQUERYFAIL, Status.RCANCELFAIL, Status.RINVCMDID]
    assert [a.status for a in found] == expected
    assert found[0].frame.pdu.message_state == 1
    assert "stat:DELETED" in text_of((await esme.asked())[0])


async def test_data_sm_is_a_submit(carrier):
    """A data_sm is answered and reported like a submit_sm."""
    smsc = await carrier()
    esme = await bound(smsc)
    pdu = DataSm(
        destination=Address(1, 1, TO), registered_delivery=1, tlvs={Tag.MESSAGE_PAYLOAD: b"xin chao"}
    )
    esme.request(pdu)
    (answer,) = await esme.answered()
    assert answer.frame.pdu.message_id == id_of((await esme.asked())[0])


# --- Messages of handsets ---


@pytest.mark.parametrize("concat", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("text", ["Chào " + "dài " * 60 + "🙂", "[long] " * 40])
async def test_long_messages_of_handsets(carrier, concat, text):
    """Parts joined in their order are the text again, whatever way they name their places."""
    smsc = await carrier()
    esme = await bound(smsc)
    sent = smsc.say(Speech(text=text, concat=concat, shuffled=True))
    frames = await esme.asked(sent)
    places = {place(f.pdu): f.pdu for f in frames}
    assert sorted(places) == [(sent, n) for n in range(1, sent + 1)]
    octets = b"".join(body(places[key]) for key in sorted(places))
    name = "ucs2" if frames[0].pdu.data_coding == 8 else "gsm7"
    assert alphabet.decode(octets, name)[0] == text
    assert (sent > 1) == (concat != "payload")


def place(pdu):
    """(parts, number of this one)."""
    if pdu.esm_class & 0x40:
        return tuple(pdu.short_message[pdu.short_message[0] - 1 : pdu.short_message[0] + 1])
    if Tag.SAR_TOTAL_SEGMENTS in pdu.tlvs:
        return pdu.tlvs[Tag.SAR_TOTAL_SEGMENTS][0], pdu.tlvs[Tag.SAR_SEGMENT_SEQNUM][0]
    return 1, 1


def body(pdu):
    if pdu.esm_class & 0x40:
        return pdu.short_message[pdu.short_message[0] + 1 :]
    return pdu.tlvs.get(Tag.MESSAGE_PAYLOAD) or pdu.short_message


async def test_lost_and_doubled_parts(carrier):
    """A part that the script loses never comes, the others as often as it says."""
    smsc = await carrier()
    esme = await bound(smsc)
    assert smsc.say(Speech(text="a" * 400, lost=(2,), times=2)) == 4
    assert [place(f.pdu) for f in await esme.asked(4)] == [(3, 1), (3, 1), (3, 3), (3, 3)]


async def test_a_burst_begins_with_the_first_receiver(carrier):
    """Ten thousand messages, each once, none before a bind that receives, no more open than the window."""
    speech = Speech(text="so {n}", count=10_000, after_s=0)
    smsc = await carrier(Script(speech=(speech,), deliver=Deliver(window=50)))
    await bound(smsc, "transmitter")
    esme = await bound(smsc, "receiver")
    frames = await esme.asked(10_000)
    assert {text_of(f) for f in frames} == {f"so {n}" for n in range(1, 10_001)}
    await smsc.until(lambda: smsc.counts["incoming_acknowledged"] == 10_000)


async def test_a_handset_replies(carrier):
    """A play may answer the message as its handset, to the sender it had."""
    smsc = await carrier(Script(play=Play(reply="Đồng ý", reply_s=0, receipts=())))
    esme = await bound(smsc)
    esme.submit()
    (frame,) = await esme.asked()
    assert (frame.pdu.source.digits, frame.pdu.destination.digits) == (TO, "SHOP")
    assert frame.pdu.short_message.decode("utf-16-be") == "Đồng ý"
