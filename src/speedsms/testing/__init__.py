"""A fake gateway for tests: in memory, answers what the real one answers, sends nothing.

    with speedsms.testing.fake_gateway() as gateway:    # environment set, any client reaches it
        my_program.send_code("0912345678")
        assert gateway.wait_otp("0912345678") == ...

pytest has the same as fixtures: `sms_gateway`, `sms_outbox`, `wait_otp`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from speedsms.contract.pin import Application
    from speedsms.contract.senders import Sender, SenderKind
    from speedsms.contract.simulation import Script
    from speedsms.testing.fake import FakeGateway
    from speedsms.testing.records import Account, Message, Outbox, Token
    from speedsms.testing.server import fake_gateway

# pytest imports this package in every project that has speedsms installed: nothing more is loaded until used.
_HOMES: Final = {
    "Account": "speedsms.testing.records",
    "Application": "speedsms.contract.pin",
    "FakeGateway": "speedsms.testing.fake",
    "Message": "speedsms.testing.records",
    "Outbox": "speedsms.testing.records",
    "Script": "speedsms.contract.simulation",
    "Sender": "speedsms.contract.senders",
    "SenderKind": "speedsms.contract.senders",
    "Token": "speedsms.testing.records",
    "fake_gateway": "speedsms.testing.server",
}
__all__ = [
    "Account",
    "Application",
    "FakeGateway",
    "Message",
    "Outbox",
    "Script",
    "Sender",
    "SenderKind",
    "Token",
    "fake_gateway",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
