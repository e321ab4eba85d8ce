"""Verify a phone: send a PIN, then check what was typed in.

python3 pin.py create APP_ID 0912345678
python3 pin.py verify APP_ID 0912345678 493027
"""

import sys
from argparse import ArgumentParser

from speedsms import OutcomeUnknown, SpeedSMS, SpeedSMSError

parser = ArgumentParser()
steps = parser.add_subparsers(dest="step", required=True)
create, verify = steps.add_parser("create"), steps.add_parser("verify")
for step in (create, verify):
    step.add_argument("app_id")
    step.add_argument("number")
verify.add_argument("pin")
given = parser.parse_args()

try:
    with SpeedSMS(honours_keys=True) as sms:  # your gateway carries a key out once: lost calls are sent again
        if given.step == "create":
            sent = sms.create_pin(given.number, "Mã xác thực của bạn là {pin_code}", app_id=given.app_id)
            print(f"tranId {sent.tran_id}: {sent.price_vnd} VND")
        else:
            check = sms.verify_pin(given.number, given.pin, app_id=given.app_id)
            print("verified" if check else f"wrong, {check.remaining_attempts} tries left")
            sys.exit(0 if check else 1)
except OutcomeUnknown as unknown:
    print(f"unknown: {unknown}\nrepeat it with the key {unknown.key}", file=sys.stderr)
    sys.exit(5)
except SpeedSMSError as error:
    sys.exit(f"refused: {error}")
