"""How a Django project sends: `send_sms` through the backend that the setting SMS_BACKEND names."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from speedsms import SmsType, SpeedSMS, SpeedSMSError

_MOST: Final = 100  # recipients of one call (protocol §1.2)


@dataclass(frozen=True, slots=True)
class Message:
    """One text to many. `originator`: a brandname; empty for a random number."""

    body: str
    originator: str
    recipients: Sequence[Any]


outbox: Final[list[Message]] = []


class Backend(Protocol):
    """What SMS_BACKEND names: a class that is called with `fail_silently` and sends."""

    def send_messages(self, messages: Iterable[Message]) -> int:
        """How many SMS, one per recipient, were accepted."""
        ...


@dataclass(frozen=True, slots=True)
class SpeedSMSBackend:
    """Sends. Raises SpeedSMSError, or with `fail_silently` returns how many were accepted before."""

    fail_silently: bool = False

    def send_messages(self, messages: Iterable[Message]) -> int:
        """How many SMS, one per recipient, were accepted."""
        accepted = 0
        try:
            for message in messages:
                for start in range(0, len(message.recipients), _MOST):
                    accepted += self._send(message, message.recipients[start : start + _MOST])
        except SpeedSMSError:
            if not self.fail_silently:
                raise
        return accepted

    def _send(self, message: Message, recipients: Sequence[Any]) -> int:
        client = _client(
            getattr(settings, "SPEEDSMS_TOKEN", None), getattr(settings, "SPEEDSMS_BASE_URL", None)
        )
        kind = SmsType.BRANDNAME if message.originator else SmsType.RANDOM_NUMBER
        return client.send(recipients, message.body, type=kind, sender=message.originator).total_sms


@dataclass(frozen=True, slots=True)
class ConsoleBackend:
    """Writes to the standard output what would be sent, for development."""

    fail_silently: bool = False

    def send_messages(self, messages: Iterable[Message]) -> int:
        """How many SMS, one per recipient, were written."""
        written = 0
        for message in messages:
            to = ", ".join(map(str, message.recipients))
            sys.stdout.write(f"SMS from {message.originator or '-'} to {to}:\n{message.body}\n\n")
            written += len(message.recipients)
        sys.stdout.flush()
        return written


@dataclass(frozen=True, slots=True)
class LocMemBackend:
    """Keeps the messages in `speedsms.contrib.django.outbox`, for tests."""

    fail_silently: bool = False

    def send_messages(self, messages: Iterable[Message]) -> int:
        """How many SMS, one per recipient, were kept."""
        kept = list(messages)
        outbox.extend(kept)
        return sum(len(message.recipients) for message in kept)


def backend_path() -> str:
    """The setting SMS_BACKEND."""
    path: str = getattr(settings, "SMS_BACKEND", "speedsms.contrib.django.SpeedSMSBackend")
    return path


def get_connection(*, fail_silently: bool = False) -> Backend:
    """A backend as SMS_BACKEND says."""
    backend: Backend = import_string(backend_path())(fail_silently=fail_silently)
    return backend


def send_sms(
    body: str,
    originator: str,
    recipients: Sequence[Any],
    fail_silently: bool = False,
    connection: Backend | None = None,
) -> int:
    """Send one text, and say how many recipients it was accepted for.

    originator: a brandname of the account, or "" for a random number. recipients: numbers as strings, or
    PhoneNumber of django-phonenumber-field; more than 100 go in several calls. fail_silently: do not raise
    SpeedSMSError. connection: another backend than that of SMS_BACKEND.
    """
    chosen = connection or get_connection(fail_silently=fail_silently)
    return chosen.send_messages([Message(body, originator, recipients)])


@lru_cache(maxsize=8)
def _client(token: str | None, base_url: str | None) -> SpeedSMS:
    """One client for all threads: it keeps its connections open between messages."""
    return SpeedSMS(token, base_url)
