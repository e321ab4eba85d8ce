"""Send one text to one number or several.

python3 send.py 'Xin chào' 0912345678,0987654321            type 2: from a random long number
python3 send.py 'Xin chào' 0912345678 3 MYSHOP              type 3: from your own brandname
python3 send.py 'Mã của bạn: 493027' 0912345678 4 Verify    type 4: from a shared brandname, Verify or Notify
python3 send.py 'Xin chào' 0912345678 5 DEVICE              type 5: from your Android device
"""

import sys
from argparse import ArgumentParser

from speedsms_api import Refused, SpeedSMS, Unknown

parser = ArgumentParser()
parser.add_argument("text")
parser.add_argument("numbers", help="separated by commas")
parser.add_argument("type", nargs="?", type=int, default=2)
parser.add_argument("sender", nargs="?", default="")
parser.add_argument("key", nargs="?", help="of an earlier try whose outcome is unknown")
given = parser.parse_args()

try:
    sent = SpeedSMS().send(given.numbers.split(","), given.text, given.type, given.sender, given.key)
    print(f"tranId {sent['tranId']}: {sent['totalSMS']} accepted, {sent['totalPrice']} VND")
    for phone in sent["invalidPhone"]:
        print(f"invalid: {phone}")
except Refused as refused:
    print(refused, file=sys.stderr)
    for phone in refused.invalid_phone:
        print(f"invalid: {phone}", file=sys.stderr)
    sys.exit(1)
except Unknown as unknown:
    # Say it to a person, or keep the key and try again later; with a new key it could arrive twice.
    print(unknown, file=sys.stderr)
    sys.exit(5)
