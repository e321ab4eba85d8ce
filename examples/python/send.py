"""Send one text to one number or several.

python3 send.py 'Xin chào' 0912345678,0987654321            type 2: from a random long number
python3 send.py 'Xin chào' 0912345678 3 MYSHOP              type 3: from your own brandname
python3 send.py 'Mã của bạn: 493027' 0912345678 4 Verify    type 4: from a shared brandname, Verify or Notify
python3 send.py 'Xin chào' 0912345678 5 DEVICE              type 5: from your Android device
"""

import sys
from argparse import ArgumentParser

from speedsms import OutcomeUnknown, SpeedSMS, SpeedSMSError

parser = ArgumentParser()
parser.add_argument("text")
parser.add_argument("numbers", help="separated by commas")
parser.add_argument("type", nargs="?", type=int, default=2)
parser.add_argument("sender", nargs="?", default="")
parser.add_argument("key", nargs="?", help="of an earlier try whose outcome is unknown")
given = parser.parse_args()

try:
    # Your gateway carries a key out once, so what got lost is sent again; leave this out for other services.
    with SpeedSMS(honours_keys=True) as sms:
        sent = sms.send(
            given.numbers.split(","), given.text, type=given.type, sender=given.sender, key=given.key
        )
    print(f"tranId {sent.tran_id}: {sent.total_sms} accepted, {sent.total_vnd} VND")
    for phone in sent.invalid_phones:
        print(f"invalid: {phone}")
except OutcomeUnknown as unknown:
    # Say it to a person, or keep the key and try again later; with a new key it could arrive twice.
    print(f"unknown: {unknown}\nrepeat it with the key {unknown.key}", file=sys.stderr)
    sys.exit(5)
except SpeedSMSError as error:  # code, reason, hint and more: speedsms.errors
    print(f"refused: {error}", file=sys.stderr)
    for phone in error.invalid_phones:
        print(f"invalid: {phone}", file=sys.stderr)
    sys.exit(1)
