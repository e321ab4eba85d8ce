"""A small project of Django that sends and receives."""

import os


def setup():
    """Set Django up for it, as `manage.py` would."""
    import django
    from django.apps import apps

    os.environ["DJANGO_SETTINGS_MODULE"] = "sample.settings"
    if not apps.ready:
        django.setup()
