"""A receiver of reports and incoming messages; frameworks have it ready in speedsms.contrib.

WEBHOOK_SECRET is the whsec_… of `speedsms webhook set`, or several, separated by spaces.

python3 webhook.py 9000
"""

import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from speedsms.webhook import BadSignature, Incoming, Report, parse, usable

BODY_LIMIT = 65_536
SECRETS = os.environ.get("WEBHOOK_SECRET", "").split()
usable(SECRETS)  # or end here: an empty secret would let everybody in


def received(event: Report | Incoming) -> None:
    """Your work. The same id may come again: keep it four days, and skip what you have seen."""
    match event:
        case Report():
            word = "delivered" if event.delivered else "failed" if event.final else "still trying"
            about = f"tranId {event.tran_id} to {event.phone}: {word} ({event.status})"
            print(f"report {event.event_id}: {about}", flush=True)
        case Incoming():
            # Quoted: strangers write these texts, and a line break in one would forge a line of the log.
            print(f"incoming {event.event_id}: {event.phone}: {event.content!r}", flush=True)


class Receiver(BaseHTTPRequestHandler):
    timeout = 30  # of each silence of a caller

    def do_POST(self) -> None:
        self.send_response(self.judged())
        self.end_headers()

    def judged(self) -> int:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length):
            return 411
        if int(length) > BODY_LIMIT:
            return 413
        body = self.rfile.read(int(length))  # the very bytes that were signed
        try:
            event = parse(body, self.headers, SECRETS)
        except BadSignature as error:  # 204 if it is genuine and nothing is to be done
            return error.http_status
        received(event)
        return 204  # within 15 s, or it is posted again: work that takes longer goes to a queue


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
    print(f"listening on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever()
