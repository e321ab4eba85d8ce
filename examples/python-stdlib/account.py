"""E-mail and balance: python3 account.py"""

import sys

from speedsms_api import SpeedSMS, SpeedSMSError

try:
    account = SpeedSMS().account()
    print(f"{account['email']}: {account['balance']} {account['currency']}")
except SpeedSMSError as error:
    sys.exit(str(error))
