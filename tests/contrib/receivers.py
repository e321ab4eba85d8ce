"""Receivers of webhooks in every framework, each as its users would build it, behind one way to post."""

import asyncio
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PATH = "/webhooks/speedsms"


class Inbox:
    """The functions of a receiver: they keep what they get, or fail."""

    def __init__(self):
        self.events, self.failing, self.meanwhile = [], False, lambda: None

    def take(self, event):
        self.meanwhile()
        if self.failing:
            raise RuntimeError("no database today")
        self.events.append(event)


class Threaded(ThreadingMixIn, WSGIServer):
    """One thread a request."""


class Quiet(WSGIRequestHandler):
    """wsgiref without a line per request."""

    def log_message(self, *_):
        pass


@contextmanager
def over_http(port):
    """Posts through a socket."""

    def post(body, headers, method="POST"):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, PATH, body, headers)
            reply = connection.getresponse()
            reply.read()
            return reply.status
        finally:
            connection.close()

    yield post


@contextmanager
def wsgi(inbox):
    """The server of wsgiref on loopback; no framework at all."""
    from speedsms.contrib.wsgi import WebhookApp

    app = WebhookApp(SECRET, on_report=inbox.take, on_incoming=inbox.take)
    with make_server("127.0.0.1", 0, app, Threaded, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with over_http(server.server_port) as post:
            yield post
        server.shutdown()
        thread.join()


@contextmanager
def asgi(inbox):
    """The server uvicorn on loopback; one function async, the other not."""
    uvicorn = pytest.importorskip("uvicorn")
    from speedsms.contrib.asgi import WebhookApp

    async def on_report(report):
        await asyncio.to_thread(inbox.take, report)

    app = WebhookApp(SECRET, on_report=on_report, on_incoming=inbox.take)
    config = uvicorn.Config(app, port=0, log_level="critical", ws="none")
    server, bound = uvicorn.Server(config), threading.Event()

    async def serve():
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        bound.set()
        await server.main_loop()
        await server.shutdown()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert bound.wait(60)
    with over_http(server.servers[0].sockets[0].getsockname()[1]) as post:
        yield post
    server.should_exit = True
    thread.join()


def through_asgi(app):
    """Posts by a transport that calls the application."""
    import httpx2

    async def exchanged(body, headers, method):
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return (await client.request(method, PATH, content=body, headers=headers)).status_code

    return lambda body, headers, method="POST": asyncio.run(exchanged(body, headers, method))


@contextmanager
def starlette(inbox):
    """A route of Starlette."""
    pytest.importorskip("starlette")
    from starlette.applications import Starlette

    from speedsms.contrib.starlette import webhook_route

    route = webhook_route(PATH, SECRET, on_report=inbox.take, on_incoming=inbox.take)
    yield through_asgi(Starlette(routes=[route]))


@contextmanager
def fastapi(inbox):
    """The same route in a router of FastAPI."""
    library = pytest.importorskip("fastapi")
    from speedsms.contrib.starlette import webhook_route

    app = library.FastAPI()
    route = webhook_route(PATH, SECRET, on_report=inbox.take, on_incoming=inbox.take)
    app.include_router(library.APIRouter(routes=[route]))
    yield through_asgi(app)


@contextmanager
def dependency(inbox):
    """An endpoint of FastAPI that depends on the event."""
    library = pytest.importorskip("fastapi")
    from typing import Annotated

    from speedsms.contrib.starlette import WebhookEvent
    from speedsms.webhook import Incoming, Report

    app, webhook_event = library.FastAPI(), WebhookEvent(SECRET)

    @app.post(PATH, status_code=204)
    async def receive(event: Annotated[Report | Incoming, library.Depends(webhook_event)]) -> None:
        await asyncio.to_thread(inbox.take, event)

    yield through_asgi(app)


@contextmanager
def flask(inbox):
    """The extension of Flask, its functions decorated after init_app."""
    library = pytest.importorskip("flask")
    from speedsms.contrib.flask import SpeedSMSExtension

    app, sms = library.Flask(__name__), SpeedSMSExtension()
    app.config.update(SPEEDSMS_WEBHOOK_SECRET=SECRET)
    sms.init_app(app)
    sms.on_report(inbox.take)
    sms.on_incoming(inbox.take)

    def post(body, headers, method="POST"):
        return app.test_client().open(PATH, method=method, data=body, headers=headers).status_code

    yield post


@contextmanager
def django(inbox):
    """The sample project, with receivers of its signals."""
    pytest.importorskip("django")
    import sample
    from django.core.cache import cache
    from django.test import Client

    sample.setup()
    from speedsms.contrib.django import incoming_received, report_received

    def on_report(report, **_):
        inbox.take(report)

    def on_incoming(incoming, **_):
        inbox.take(incoming)

    def post(body, headers, method="POST"):
        client = Client(raise_request_exception=False, enforce_csrf_checks=True)
        kind = "application/json"
        return client.generic(method, PATH, body, content_type=kind, headers=headers).status_code

    report_received.connect(on_report)
    incoming_received.connect(on_incoming)
    yield post
    report_received.disconnect(on_report)
    incoming_received.disconnect(on_incoming)
    cache.clear()


RECEIVERS = [wsgi, asgi, starlette, fastapi, dependency, flask, django]
