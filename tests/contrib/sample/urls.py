"""Where the webhooks arrive."""

from django.urls import path

from speedsms.contrib.django import webhook

urlpatterns = [path("webhooks/speedsms", webhook)]
