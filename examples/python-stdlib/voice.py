"""Read a code aloud: python3 voice.py 0912345678 493027"""

import sys
from argparse import ArgumentParser

from speedsms_api import SpeedSMS, SpeedSMSError, Unknown

parser = ArgumentParser()
parser.add_argument("number")
parser.add_argument("digits", help="4 to 10 of them")
given = parser.parse_args()

try:
    sent = SpeedSMS().voice(given.number, given.digits)
    print(f"tranId {sent['tranId']}: {sent['totalPrice']} VND")
except SpeedSMSError as error:
    print(error, file=sys.stderr)
    sys.exit(5 if isinstance(error, Unknown) else 1)
