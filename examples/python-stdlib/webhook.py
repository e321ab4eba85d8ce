"""A receiver of reports and incoming messages.

WEBHOOK_SECRET is the whsec_… of `speedsms webhook set`, or several, separated by spaces.

python3 webhook.py 9000
"""

import base64
import hmac
import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300
BODY_LIMIT = 65_536


def signing_key(secret):
    key = base64.b64decode(secret[len("whsec_") :], validate=True) if secret.startswith("whsec_") else b""
    if len(key) < 24:
        raise ValueError("set WEBHOOK_SECRET")  # an empty key would let everybody in
    return key


KEYS = [signing_key(secret) for secret in os.environ.get("WEBHOOK_SECRET", "").split(" ")]


def genuine(headers, body):
    """Whether the gateway signed these bytes (Standard Webhooks), and not long ago."""
    event_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not event_id or not re.fullmatch("[0-9]{1,15}", stamp) or abs(time.time() - int(stamp)) > TOLERANCE_S:
        return False
    signed = f"{event_id}.{stamp}.".encode("utf-8", "replace") + body
    theirs = (
        headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    )  # several while it is changed
    return any(hmac.compare_digest(signature(key, signed), one) for key in KEYS for one in theirs)


def signature(key, signed):
    return b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))


def received(event_id, event):
    """Your work. The same id may come again: keep it four days, and skip what you have seen."""
    if event["type"] == "report":
        status = event["status"]
        word = "delivered" if status == 0 else "still trying" if status < 64 else "failed"
        print(
            f"report {event_id}: tranId {event['tranId']} to {event['phone']}: {word} ({status})", flush=True
        )
    elif event["type"] == "sms":
        # Quoted: strangers write these texts, and a line break in one would forge a line of the log.
        print(
            f"incoming {event_id}: {event['phone']}: {json.dumps(event['content'], ensure_ascii=False)}",
            flush=True,
        )
    # else of a later release


class Receiver(BaseHTTPRequestHandler):
    timeout = 30  # of each silence of a caller

    def do_POST(self):
        self.send_response(self.judged())
        self.end_headers()

    def judged(self):
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length):
            return 411
        if int(length) > BODY_LIMIT:
            return 413
        body = self.rfile.read(int(length))  # the very bytes that were signed
        if not genuine(self.headers, body):
            return 401
        received(self.headers["webhook-id"], json.loads(body))
        return 204  # within 15 s, or it is posted again: work that takes longer goes to a queue


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
    print(f"listening on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever()
