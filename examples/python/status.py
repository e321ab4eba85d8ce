"""How far a request's messages are: python3 status.py 101"""

import sys
from argparse import ArgumentParser

from speedsms import Progress, SpeedSMS, SpeedSMSError

# Another scale than the webhook's, where 0 is delivered.
WORDS = {
    Progress.PENDING: "waiting",
    Progress.SENT: "sent",
    Progress.DELIVERED: "delivered",
    Progress.FAILED: "failed",
}

parser = ArgumentParser()
parser.add_argument("tran_id", type=int)
given = parser.parse_args()

try:
    with SpeedSMS() as sms:  # sms.wait(tran_id) stays until all are delivered or failed
        for message in sms.status(given.tran_id):
            print(message.phone, WORDS.get(message.progress, message.progress))
except SpeedSMSError as error:
    sys.exit(f"refused: {error}")
