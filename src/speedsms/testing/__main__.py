"""`python -m speedsms.testing`: a sandbox without a database, for programs in any language."""

import argparse
import sys

from speedsms.testing.book import APP_ID, TEST_TOKEN
from speedsms.testing.fake import FakeGateway
from speedsms.testing.server import Server

_WELCOME = """
  The fake gateway answers at {url}; nothing is sent, nothing is kept.

  token       {token}
  test token  {test_token}   (magic numbers)
  app_id      {app_id}

  curl -u {token}:x -H 'Content-Type: application/json' \
-d '{{"to":["0912345678"],"content":"Xin chao","sms_type":2}}' {url}/index.php/sms/send

  Ctrl-C stops it.
"""


def main() -> None:
    """Serve until interrupted; each message is a line on standard output."""
    options = argparse.ArgumentParser(prog="python -m speedsms.testing", description=__doc__)
    options.add_argument("--port", type=int, default=8101, help="0 takes a free one (default: %(default)s)")
    options.add_argument("--webhook", metavar="URL", help="where reports and incoming messages go")
    asked = options.parse_args()
    gateway = FakeGateway()
    with Server(gateway, asked.port) as server:
        known = {"token": gateway.token, "test_token": TEST_TOKEN, "app_id": APP_ID}
        sys.stdout.write(_WELCOME.format(url=server.url, **known))
        if asked.webhook:
            (secret,) = gateway.add_endpoint(asked.webhook).secrets
            sys.stdout.write(f"  webhooks    {asked.webhook}, signed with {secret}\n")
        sys.stdout.write("\n  Messages:\n")
        try:
            _watch(gateway)
        except KeyboardInterrupt:
            sys.stdout.write("\n")


def _watch(gateway: FakeGateway) -> None:
    told = 0
    while True:
        with gateway.changed:
            fresh = gateway.messages[told:]
            if not fresh:
                sys.stdout.flush()
                gateway.changed.wait()
        sys.stdout.writelines(f"  {message}\n" for message in fresh)
        told += len(fresh)


if __name__ == "__main__":
    main()
