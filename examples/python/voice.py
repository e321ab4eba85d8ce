"""Read a code aloud: python3 voice.py 0912345678 493027"""

import sys
from argparse import ArgumentParser

from speedsms import OutcomeUnknown, SpeedSMS, SpeedSMSError

parser = ArgumentParser()
parser.add_argument("number")
parser.add_argument("digits", help="4 to 10 of them")
given = parser.parse_args()

try:
    with SpeedSMS(honours_keys=True) as sms:  # your gateway carries a key out once: lost calls are sent again
        sent = sms.voice(given.number, given.digits)
    print(f"tranId {sent.tran_id}: {sent.total_vnd} VND")
except OutcomeUnknown as unknown:
    print(f"unknown: {unknown}\nrepeat it with the key {unknown.key}", file=sys.stderr)
    sys.exit(5)
except SpeedSMSError as error:
    sys.exit(f"refused: {error}")
