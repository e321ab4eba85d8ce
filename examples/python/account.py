"""E-mail and balance: python3 account.py"""

import sys

from speedsms import SpeedSMS, SpeedSMSError

try:
    with SpeedSMS() as sms:
        account = sms.account()
    print(f"{account.email}: {account.balance_vnd} {account.currency}")
except SpeedSMSError as error:
    sys.exit(f"refused: {error}")
