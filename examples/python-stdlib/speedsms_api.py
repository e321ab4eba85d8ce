"""The SpeedSMS API with Python's own library alone, in one file: copy it. Python 3.9 or newer.

    sms = SpeedSMS()                                     # SPEEDSMS_BASE_URL, SPEEDSMS_TOKEN
    sent = sms.send(["0912345678"], "Xin chào", 2)
    print(sent["tranId"])

`pip install speedsms` gives you more: types, asyncio, sending to thousands, a fake gateway for your tests.
"""

import base64
import http.client
import json
import os
import ssl
import time
import uuid
from contextlib import closing
from urllib.parse import urlsplit

TRIES = 3
TIMEOUT_S = 30  # of connecting, and of each silence


class SpeedSMSError(Exception):
    pass


class Refused(SpeedSMSError):
    """Certain: nothing was sent and nothing was charged."""

    def __init__(self, http_status, reply, reason):
        self.http_status = http_status
        self.code = str(reply.get("code", 0))  # "300"; "0" if the answer is of HTTP alone
        self.reason = reason  # "balance": finer than the code, for programs; may be empty
        self.invalid_phone = reply.get("invalidPhone", [])  # as you wrote them
        what = f"code {self.code}" if http_status == 200 else f"HTTP {http_status}"
        super().__init__(f"refused: {what}{reason and f' ({reason})'}: {reply.get('message', '')}")


class Unknown(SpeedSMSError):
    """It may have been carried out: repeat the same call with this key, and nothing happens twice."""

    def __init__(self, why, key):
        self.key = key
        super().__init__(f"unknown: {why}" + (f"; repeat it with the key {key}" if key else ""))


class SpeedSMS:
    def __init__(self, base_url=None, token=None):
        url = urlsplit(base_url or os.environ.get("SPEEDSMS_BASE_URL") or "http://127.0.0.1:8100")
        token = token or os.environ.get("SPEEDSMS_TOKEN")
        if not token:
            raise ValueError("set SPEEDSMS_TOKEN")
        # Over plain HTTP everybody on the way reads the token.
        here = url.hostname in {"localhost", "127.0.0.1", "::1"}
        if url.scheme != "https" and not (url.scheme == "http" and here):
            raise ValueError("SPEEDSMS_BASE_URL: use https:// (http:// only on this machine)")
        self._url = url
        self._authorization = "Basic " + base64.b64encode(f"{token}:x".encode()).decode()

    def account(self):
        """{"email": str, "balance": int, "currency": str}"""
        return self._call("user/info")

    def send(self, to, content, sms_type=2, sender="", key=None):
        """One text to at most 100 numbers; the key is your own name of this sending, say "order-1234".

        {"tranId": int, "totalSMS": int, "totalPrice": int, "invalidPhone": [str]}
        """
        fields = {"to": list(to), "content": content, "sms_type": sms_type, "sender": sender}
        return self._call("sms/send", fields, key or new_key())

    def voice(self, to, digits, key=None):
        """Read a code of 4 to 10 digits aloud.

        {"tranId": int, "totalPrice": int, "invalidPhone": [str]}
        """
        return self._call("voice/otp", {"to": to, "content": digits}, key or new_key())

    def create_pin(self, to, content, app_id, key=None):
        """Send a PIN; {pin_code} in the text becomes it.

        {"tranId": int, "totalPrice": int}
        """
        return self._call("pin/create", {"to": to, "content": content, "app_id": app_id}, key or new_key())

    def verify_pin(self, phone, pin, app_id):
        """Look at "verified" and at nothing else: a wrong PIN is answered with success too.

        {"pin": str, "phone": str, "verified": bool, "remainingAttempts": int}
        """
        return self._call("pin/verify", {"phone": phone, "pin_code": pin, "app_id": app_id})

    def status(self, tran_id):
        """[{"phone": str, "status": int}]: 0 waiting, 1 sent, 2 delivered, 3 failed"""
        return self._call(f"sms/status/{int(tran_id)}")

    def send_mms(self, to, content, link, device, key=None):
        """A text with a link to a picture, through an Android device.

        {"tranId": int, "totalSMS": int, "totalPrice": int, "invalidPhone": [str]}
        """
        fields = {"to": list(to), "content": content, "link": link, "sender": device}
        return self._call("mms/send", fields, key or new_key())

    def _call(self, path, fields=None, key=None):
        # Repeating is safe because every try has the same key and the same bytes: the gateway carries a key
        # out once. Of a service whose replies lack the header "X-Speedsms-Contract: 1" that is not known: set
        # TRIES to 1 there.
        body = None if fields is None else json.dumps(fields)
        unknown = False  # may an earlier try have been carried out?
        for tried in range(1, TRIES + 1):
            status, headers, text = self._exchange(path, body, key)
            reply = _parsed(text)
            if status == 200 and reply.get("status") == "success" and "data" in reply:
                return reply["data"]
            # 409: a try with this key is still running.
            refused = (
                reply.get("status") == "error" if status == 200 else 400 <= status < 500 and status != 409
            )
            unknown = unknown or not refused
            passing = not refused or status == 429 or reply.get("code") == "500"
            if not passing or tried == TRIES:
                break
            wait = headers.get("Retry-After", "")
            time.sleep(min(int(wait) if wait.isdecimal() else tried, TIMEOUT_S))
        if unknown:
            raise Unknown(f"HTTP {status} is no answer" if status else text, key)
        raise Refused(status, reply, headers.get("X-Speedsms-Reason", ""))

    def _exchange(self, path, body, key):
        """HTTP status (0: no answer), headers, body. Follows no redirect: it would take the token along."""
        headers = {"Authorization": self._authorization}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        target = f"{self._url.path.rstrip('/')}/index.php/{path}"
        with closing(self._connection()) as connection:
            try:
                connection.request("POST" if body else "GET", target, body, headers)
                response = connection.getresponse()
                return response.status, response.headers, response.read().decode("utf-8", "replace")
            except (OSError, http.client.HTTPException) as error:
                return 0, {}, str(error) or type(error).__name__

    def _connection(self):
        host, port = self._url.hostname, self._url.port
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        verified = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=verified)


def new_key():
    return str(uuid.uuid4())


def _parsed(text):
    try:
        reply = json.loads(text)
    except ValueError:
        return {}
    return reply if isinstance(reply, dict) else {}
