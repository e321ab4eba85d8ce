"""The vendor's method names return what the service said, byte for byte decoded."""

import json

import pytest

from speedsms import OutcomeUnknown, Unavailable
from speedsms.compat import SpeedSMSAPI


@pytest.fixture
def api(kit):
    with SpeedSMSAPI(kit.token, kit.service.url) as api:
        yield api


CALLS = {
    "getUserInfo": (),
    "sendSMS": (["0912345678"], "hi", 2, ""),
    "sendVoice": ("0912345678", "1234"),
    "sendMMS": (["0912345678"], "hi", "https://a.example/b", "device"),
}


@pytest.mark.parametrize("name", CALLS)
def test_dictionaries_as_documented(api, service, kit, name):
    """Success, refusal and HTTP refusal alike: what the sample's json_decode would give."""
    data = (
        {"email": "a", "balance": 1}
        if name == "getUserInfo"
        else {"tranId": 1, "totalPrice": 1, "more": None}
    )
    unauthorized = {"name": "Unauthorized", "message": "bad", "code": 0, "status": 401}
    service.script += [
        kit.success(data),
        kit.refusal("300", "no money", invalid=["1"]),
        kit.answer(401, json.dumps(unauthorized).encode()),
    ]
    call = getattr(api, name)
    assert call(*CALLS[name]) == {"status": "success", "code": "00", "data": data}
    assert call(*CALLS[name]) == {
        "status": "error",
        "code": "300",
        "message": "no money",
        "invalidPhone": ["1"],
    }
    assert call(*CALLS[name]) == unauthorized


def test_what_the_sample_sends(api, service):
    """The names of the vendor's page."""
    api.sendSMS(["0912345678"], "xin chào", 3, "SHOP")
    expected = {"to": ["0912345678"], "content": "xin chào", "sms_type": 3, "sender": "SHOP"}
    assert service.seen[0].json == expected


def test_no_reply_raises(api, service, kit):
    """Where the sample returns null, *not sent* and *unknown* look alike; here they do not."""
    service.script += [kit.break_.RESET_AFTER]
    with pytest.raises(OutcomeUnknown):
        api.sendSMS(["0912345678"], "hi", 2, "")
    service.script += [kit.answer(200, b"<html>")] * 3
    with pytest.raises(Unavailable):
        api.getUserInfo()
