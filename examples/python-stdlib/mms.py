"""Send a text with a link to a picture, through an Android device.

python3 mms.py 'Xin chào' https://shop.example/a.jpg DEVICE 0912345678,0987654321
"""

import sys
from argparse import ArgumentParser

from speedsms_api import SpeedSMS, SpeedSMSError, Unknown

parser = ArgumentParser()
parser.add_argument("text")
parser.add_argument("link")
parser.add_argument("device")
parser.add_argument("numbers", help="separated by commas")
given = parser.parse_args()

try:
    sent = SpeedSMS().send_mms(given.numbers.split(","), given.text, given.link, given.device)
    print(f"tranId {sent['tranId']}: {sent['totalSMS']} accepted, {sent['totalPrice']} VND")
except SpeedSMSError as error:
    print(error, file=sys.stderr)
    sys.exit(5 if isinstance(error, Unknown) else 1)
