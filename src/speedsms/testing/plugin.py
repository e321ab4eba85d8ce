"""The pytest fixtures `sms_gateway`, `sms_outbox`, `wait_otp`; nothing is loaded before one is used."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from speedsms import testing

if TYPE_CHECKING:
    from speedsms.testing import FakeGateway, Outbox


@pytest.fixture
def sms_gateway() -> "Iterator[FakeGateway]":
    """A fake gateway on a loopback port; SPEEDSMS_BASE_URL and SPEEDSMS_TOKEN lead every client to it."""
    with testing.fake_gateway() as gateway:
        yield gateway


@pytest.fixture
def sms_outbox(sms_gateway: "FakeGateway") -> "Outbox":
    """The messages that were sent in this test: a list with `last`, `to(phone)` and assertions."""
    return sms_gateway.messages


@pytest.fixture
def wait_otp(sms_gateway: "FakeGateway") -> Callable[..., str]:
    """`wait_otp(phone, within_s=5)`: the code in the next message or call to a phone."""
    return sms_gateway.wait_otp
