"""The vendor's sample client by its own names, for programs that are moved over line by line.

Every method returns the reply as the service sent it, refusals too, so that old code reads on as it does.
New code uses `speedsms.SpeedSMS`.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from speedsms.client import SpeedSMS
from speedsms.errors import Rejected
from speedsms.results import Account, Raw, Sent


class SpeedSMSAPI:
    """The vendor's `SpeedSMSAPI`. What it does not do as the sample: certificates are verified, calls end.

    `token` and `base_url` are found as `SpeedSMS` finds them.
    """

    def __init__(self, token: str | None = None, base_url: str | None = None) -> None:
        """Raises ConfigurationError."""
        self._sms = SpeedSMS(token, base_url)

    def __repr__(self) -> str:
        """The address, and nothing that must not be shown."""
        return f"SpeedSMSAPI({self._sms!r})"

    def getUserInfo(self) -> dict[str, Any]:  # noqa: N802  the vendor's name
        """`{"status": "success", "code": "00", "data": {"email", "balance", "currency"}}`."""
        return _reply(self._sms.account)

    def sendSMS(  # noqa: N802  the vendor's name
        self,
        phones: str | Sequence[str],
        content: str,
        type: int = 2,  # noqa: A002  the vendor's name
        sender: str = "",
    ) -> dict[str, Any]:
        """`{…, "data": {"tranId", "totalSMS", "totalPrice", "invalidPhone"}}`, or a refusal with `message`.

        Raises OutcomeUnknown where the sample returns null: it may have been sent.
        """
        return _reply(lambda: self._sms.send(phones, content, type=type, sender=sender))

    def sendVoice(self, phone: str, content: str) -> dict[str, Any]:  # noqa: N802  the vendor's name
        """`{…, "data": {"tranId", "totalPrice", "invalidPhone"}}`. Raises OutcomeUnknown."""
        return _reply(lambda: self._sms.voice(phone, content))

    def sendMMS(  # noqa: N802  the vendor's name
        self, phones: str | Sequence[str], content: str, link: str, sender: str
    ) -> dict[str, Any]:
        """The same dictionary as of `sendSMS`. Raises OutcomeUnknown."""
        return _reply(lambda: self._sms.send_mms(phones, content, link, sender=sender))

    def close(self) -> None:
        """Give the connections back."""
        self._sms.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _reply(call: Callable[[], Account | Sent]) -> dict[str, Any]:
    try:
        return _decoded(call().raw)
    except Rejected as error:
        if error.raw is None or not error.raw.body.lstrip().startswith(
            b"{"
        ):  # nothing came, or a proxy's page
            raise
        return _decoded(error.raw)


def _decoded(raw: Raw) -> dict[str, Any]:
    reply: dict[str, Any] = raw.json
    return reply
