"""What `manage.py check` says about the settings."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.utils.module_loading import import_string

from speedsms.contrib.django.backends import ConsoleBackend, LocMemBackend, backend_path
from speedsms.webhook import usable


def check_backend(**_: Any) -> list[CheckMessage]:
    """The backend can be loaded, and in production it sends."""
    try:
        backend = import_string(backend_path())
    except ImportError as error:
        return [Error(f"SMS_BACKEND cannot be loaded: {error}", id="speedsms.E001")]
    if not settings.DEBUG and backend in {ConsoleBackend, LocMemBackend}:
        hint = "Set SMS_BACKEND to speedsms.contrib.django.SpeedSMSBackend."
        return [Warning(f"SMS_BACKEND is {backend.__name__}: no SMS is sent", hint, id="speedsms.W001")]
    return []


def check_webhook(**_: Any) -> list[CheckMessage]:
    """There is a secret for the webhook view, and it is one."""
    secret = getattr(settings, "SPEEDSMS_WEBHOOK_SECRET", None)
    if not secret:
        hint = "Set it to the whsec_… of your endpoint, or leave the view out of your URLs."
        return [Warning("SPEEDSMS_WEBHOOK_SECRET is not set: the view fails", hint, id="speedsms.W002")]
    try:
        usable(secret)
    except ValueError as error:
        return [Error(f"SPEEDSMS_WEBHOOK_SECRET: {error}", id="speedsms.E002")]
    return []
