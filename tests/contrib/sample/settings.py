"""The settings a project needs, and no more."""

SECRET_KEY = "of tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "sample.urls"
INSTALLED_APPS = ["speedsms.contrib.django"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
SMS_BACKEND = "speedsms.contrib.django.SpeedSMSBackend"
SPEEDSMS_WEBHOOK_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
