"""The endpoint for webhooks in Django, and the signals it sends."""

from functools import lru_cache

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from speedsms.contrib._receiver import MOST_BYTES, Receiver
from speedsms.webhook import KEEP_S

report_received = Signal()  # with `report`, a speedsms.webhook.Report
incoming_received = Signal()  # with `incoming`, a speedsms.webhook.Incoming


def _webhook(request: HttpRequest) -> HttpResponse:
    """Verify the webhook and send `report_received` or `incoming_received`; 204 when all receivers returned.

    One that raises is answered with Django's 500: the event comes again, to all of them.
    """
    secret = getattr(settings, "SPEEDSMS_WEBHOOK_SECRET", None)
    if not secret:
        raise ImproperlyConfigured("SPEEDSMS_WEBHOOK_SECRET is not set")
    receiver = _receiver(secret if isinstance(secret, str) else tuple(secret))
    status = receiver.answer(request.method, request.headers, request.read(MOST_BYTES + 1))
    return HttpResponse(status=status, headers={"Allow": "POST"} if status == 405 else None)


webhook = csrf_exempt(_webhook)  # the sender has a signature instead of a cookie


class _Done:
    """The events that are done, in a cache: processes may share it."""

    def __contains__(self, event_id: str) -> bool:
        return caches[_cache()].get(f"speedsms:{event_id}") is not None

    def add(self, event_id: str) -> None:
        caches[_cache()].set(f"speedsms:{event_id}", 1, KEEP_S)


def _cache() -> str:
    alias: str = getattr(settings, "SPEEDSMS_WEBHOOK_CACHE", "default")
    return alias


@lru_cache(maxsize=8)
def _receiver(secret: str | tuple[str, ...]) -> Receiver:
    return Receiver(
        secret,
        lambda report: report_received.send(sender=None, report=report),
        lambda incoming: incoming_received.send(sender=None, incoming=incoming),
        _Done(),
    )
