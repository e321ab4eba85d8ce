"""How far a request's messages are: python3 status.py 101"""

import sys
from argparse import ArgumentParser

from speedsms_api import SpeedSMS, SpeedSMSError

# Another scale than the webhook's, where 0 is delivered.
WORDS = {0: "waiting", 1: "sent", 2: "delivered", 3: "failed"}

parser = ArgumentParser()
parser.add_argument("tran_id", type=int)
given = parser.parse_args()

try:
    for message in SpeedSMS().status(given.tran_id):
        print(message["phone"], WORDS.get(message["status"], message["status"]))
except SpeedSMSError as error:
    sys.exit(str(error))
