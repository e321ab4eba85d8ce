"""Send a text with a link to a picture, through an Android device.

python3 mms.py 'Xin chào' https://shop.example/a.jpg DEVICE 0912345678,0987654321
"""

import sys
from argparse import ArgumentParser

from speedsms import OutcomeUnknown, SpeedSMS, SpeedSMSError

parser = ArgumentParser()
parser.add_argument("text")
parser.add_argument("link")
parser.add_argument("device")
parser.add_argument("numbers", help="separated by commas")
given = parser.parse_args()

try:
    with SpeedSMS(honours_keys=True) as sms:  # your gateway carries a key out once: lost calls are sent again
        sent = sms.send_mms(given.numbers.split(","), given.text, given.link, sender=given.device)
    print(f"tranId {sent.tran_id}: {sent.total_sms} accepted, {sent.total_vnd} VND")
except OutcomeUnknown as unknown:
    print(f"unknown: {unknown}\nrepeat it with the key {unknown.key}", file=sys.stderr)
    sys.exit(5)
except SpeedSMSError as error:
    sys.exit(f"refused: {error}")
