"""The application as Django knows it."""

from django.apps import AppConfig
from django.core import checks

from speedsms.contrib.django.checks import check_backend, check_webhook


class SpeedSMSConfig(AppConfig):  # type: ignore[misc]  # Django ships no types
    """`speedsms.contrib.django` in INSTALLED_APPS."""

    name = "speedsms.contrib.django"
    label = "speedsms"
    verbose_name = "SpeedSMS"

    def ready(self) -> None:
        """Let `manage.py check` look at the settings."""
        checks.register(check_backend, "speedsms")
        checks.register(check_webhook, "speedsms")
