"""A Flask application sends with one client, and from its command line."""

import time

import pytest

pytest.importorskip("flask")
from flask import Flask, request

from speedsms import webhook
from speedsms.contract.webhook import secret_from
from speedsms.contrib.flask import SpeedSMSExtension


@pytest.fixture
def app(sms_gateway):
    """An application configured for a fake gateway, with a view that sends."""
    app, sms = Flask(__name__), SpeedSMSExtension()
    app.config.update(SPEEDSMS_TOKEN=sms_gateway.token, SPEEDSMS_BASE_URL=sms_gateway.url)
    sms.init_app(app)

    @app.post("/welcome/<phone>")
    def welcome(phone):
        return str(sms.client.send(phone, "Xin chao").total_sms)

    yield app
    with app.app_context():
        sms.client.close()


def test_a_view_sends(app, sms_gateway):
    """With the client of its application, the same for all requests."""
    replies = [app.test_client().post(f"/welcome/091234567{n}") for n in range(3)]
    assert [reply.text for reply in replies] == ["1", "1", "1"]
    assert len(sms_gateway.messages) == 3


def test_without_a_secret_there_is_no_endpoint(app):
    """An application that only sends has nothing to post to."""
    assert app.test_client().post("/webhooks/speedsms").status_code == 404


def test_commands(app, sms_gateway):
    """`flask sms send` and `flask sms balance`; a refusal says why and fails."""
    runner = app.test_cli_runner()
    sent = runner.invoke(args=["sms", "send", "0912345678", "Xin chao"])
    assert (sent.exit_code, sent.output) == (0, f"tranId {sms_gateway.messages[0].tran_id}, 250 VND\n")
    assert " VND\n" in runner.invoke(args=["sms", "balance"]).output
    refused = runner.invoke(args=["sms", "send", "12", "Xin chao"])
    assert refused.exit_code == 1
    assert "105" in refused.output


def test_a_wrong_secret_is_heard_of_at_the_start():
    """And not when the first webhook comes."""
    app = Flask(__name__)
    app.config["SPEEDSMS_WEBHOOK_SECRET"] = "secret"
    with pytest.raises(ValueError, match="not a signing secret"):
        SpeedSMSExtension(app)


def test_a_hook_that_reads_the_body_first():
    """Such as one that logs requests: the webhook is believed all the same."""
    app, body = Flask(__name__), b'{"type":"report","tranId":1,"phone":"0912345678","status":0}'
    app.config["SPEEDSMS_WEBHOOK_SECRET"] = secret = secret_from(b"f" * 32)
    SpeedSMSExtension(app)
    app.before_request(lambda: request.get_data() and None)
    headers = webhook.sign(body, secret, "evt_1", int(time.time()))
    assert app.test_client().post("/webhooks/speedsms", data=body, headers=headers).status_code == 204


def test_two_applications_of_one_extension():
    """Each has its own configuration and path."""
    sms, answers = SpeedSMSExtension(), []
    for path in ("/a", "/b"):
        app = Flask(__name__)
        app.config.update(SPEEDSMS_WEBHOOK_SECRET="whsec_" + "A" * 44, SPEEDSMS_WEBHOOK_PATH=path)
        sms.init_app(app)
        answers.append([app.test_client().post(path).status_code for path in ("/a", "/b")])
    assert answers == [[401, 404], [404, 401]]
