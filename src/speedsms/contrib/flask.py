"""The client, an endpoint for webhooks and `flask sms …` in Flask."""

from collections.abc import Callable
from typing import TypeVar

import click
from flask import Blueprint, Flask, Response, abort, current_app, request

from speedsms import SpeedSMS, SpeedSMSError
from speedsms.contrib._receiver import MOST_BYTES, Memory, Receiver
from speedsms.webhook import Incoming, Report, Seen

OnReport = TypeVar("OnReport", bound=Callable[[Report], object])
OnIncoming = TypeVar("OnIncoming", bound=Callable[[Incoming], object])


class SpeedSMSExtension:
    """`sms = SpeedSMSExtension()`, then `sms.init_app(app)`; `sms.client` sends.

    Keys of the configuration: `SPEEDSMS_TOKEN` and `SPEEDSMS_BASE_URL`, without which the client looks where
    it always looks; `SPEEDSMS_WEBHOOK_SECRET`, one or more, without which the endpoint is not there;
    `SPEEDSMS_WEBHOOK_PATH`, /webhooks/speedsms by default. seen: remembers the events that are done.
    `blueprint` is the endpoint and the commands; exempt it from a CSRF protection, for it has signatures.
    """

    def __init__(self, app: Flask | None = None, *, seen: Memory | None = None) -> None:
        self._seen: Memory = Seen() if seen is None else seen
        self._on_report: Callable[[Report], object] | None = None
        self._on_incoming: Callable[[Incoming], object] | None = None
        self.blueprint = Blueprint("speedsms", __name__, cli_group="sms")
        self.blueprint.add_url_rule("", view_func=_webhook, methods=["POST"])
        self.blueprint.cli.command("send")(_send)
        self.blueprint.cli.command("balance")(_balance)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the endpoint and the commands. Raises ValueError if the secret cannot be one."""
        secret = app.config.get("SPEEDSMS_WEBHOOK_SECRET")
        app.extensions["speedsms_receiver"] = secret and Receiver(
            secret,
            # Looked up when an event comes: functions may be decorated after init_app.
            lambda report: self._on_report and self._on_report(report),
            lambda incoming: self._on_incoming and self._on_incoming(incoming),
            self._seen,
        )
        path = app.config.get("SPEEDSMS_WEBHOOK_PATH", "/webhooks/speedsms")
        app.register_blueprint(self.blueprint, url_prefix=path)

    def on_report(self, function: OnReport) -> OnReport:
        """Decorates the function that gets the reports. If it raises, the report comes again."""
        self._on_report = function
        return function

    def on_incoming(self, function: OnIncoming) -> OnIncoming:
        """Decorates the function that gets the incoming SMS. If it raises, the SMS comes again."""
        self._on_incoming = function
        return function

    @property
    def client(self) -> SpeedSMS:
        """The client of the current application, made at its first use."""
        return _client()


def _client() -> SpeedSMS:
    kept, config = current_app.extensions, current_app.config
    if "speedsms" not in kept:
        made = SpeedSMS(config.get("SPEEDSMS_TOKEN"), config.get("SPEEDSMS_BASE_URL"))
        kept.setdefault("speedsms", made)
    client: SpeedSMS = kept["speedsms"]
    return client


def _webhook() -> Response:
    receiver: Receiver | None = current_app.extensions["speedsms_receiver"]
    if receiver is None:
        abort(404)
    # Nothing is left in the stream once a hook of the application has read it; Flask keeps that for others.
    body = request.stream.read(MOST_BYTES + 1) or request.get_data()
    return Response(status=receiver.answer(request.method, request.headers, body))


@click.argument("phone")
@click.argument("content")
@click.option("--type", "sms_type", default=2, show_default=True, help="The type of the SMS.")
@click.option("--sender", default="", help="Brandname, number or device.")
def _send(phone: str, content: str, sms_type: int, sender: str) -> None:
    """Send CONTENT to PHONE."""
    try:
        sent = _client().send(phone, content, type=sms_type, sender=sender)
    except SpeedSMSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"tranId {sent.tran_id}, {sent.total_vnd} VND")


def _balance() -> None:
    """Show what can be spent."""
    try:
        account = _client().account()
    except SpeedSMSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{account.email}: {account.balance_vnd} VND")
