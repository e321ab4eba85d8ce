"""Verify a phone: send a PIN, then check what was typed in.

python3 pin.py create APP_ID 0912345678
python3 pin.py verify APP_ID 0912345678 493027
"""

import sys
from argparse import ArgumentParser

from speedsms_api import SpeedSMS, SpeedSMSError, Unknown

parser = ArgumentParser()
steps = parser.add_subparsers(dest="step", required=True)
create, verify = steps.add_parser("create"), steps.add_parser("verify")
for step in (create, verify):
    step.add_argument("app_id")
    step.add_argument("number")
verify.add_argument("pin")
given = parser.parse_args()

try:
    sms = SpeedSMS()
    if given.step == "create":
        sent = sms.create_pin(given.number, "Mã xác thực của bạn là {pin_code}", given.app_id)
        print(f"tranId {sent['tranId']}: {sent['totalPrice']} VND")
    else:
        check = sms.verify_pin(given.number, given.pin, given.app_id)
        verified = check["verified"] is True
        print("verified" if verified else f"wrong, {check['remainingAttempts']} tries left")
        sys.exit(0 if verified else 1)
except SpeedSMSError as error:
    print(error, file=sys.stderr)
    sys.exit(5 if isinstance(error, Unknown) else 1)
