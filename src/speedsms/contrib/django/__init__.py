"""SMS backends, the webhook view with its signals, and system checks for Django.

Add "speedsms.contrib.django" to INSTALLED_APPS. Settings, all optional:

SMS_BACKEND              dotted path; SpeedSMSBackend of this package unless set. ConsoleBackend writes to the
                         standard output, LocMemBackend keeps the messages in `outbox`
SPEEDSMS_TOKEN           without these two the client looks where it always looks: the environment,
SPEEDSMS_BASE_URL        then the profile file
SPEEDSMS_WEBHOOK_SECRET  whsec_…, or a list while it is changed; `webhook` needs it
SPEEDSMS_WEBHOOK_CACHE   alias of the cache that remembers the events that are done, "default" unless set
"""

from speedsms.contrib.django.backends import (
    ConsoleBackend,
    LocMemBackend,
    Message,
    SpeedSMSBackend,
    get_connection,
    outbox,
    send_sms,
)
from speedsms.contrib.django.views import incoming_received, report_received, webhook

__all__ = [
    "ConsoleBackend",
    "LocMemBackend",
    "Message",
    "SpeedSMSBackend",
    "get_connection",
    "incoming_received",
    "outbox",
    "report_received",
    "send_sms",
    "webhook",
]
