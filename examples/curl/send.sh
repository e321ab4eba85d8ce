#!/usr/bin/env bash
# bash send.sh TEXT NUMBERS [TYPE [SENDER]]
#
#     bash send.sh 'Xin chào' 0912345678,0987654321            type 2: from a random long number
#     bash send.sh 'Xin chào' 0912345678 3 MYSHOP              type 3: from your own brandname
#     bash send.sh 'Mã của bạn: 493027' 0912345678 4 Verify    type 4: from a shared brandname, Verify or Notify
#     bash send.sh 'Xin chào' 0912345678 5 DEVICE              type 5: from your Android device
source "$(dirname "$0")/speedsms.sh"
[ $# -ge 2 ] || { echo 'usage: bash send.sh TEXT NUMBERS [TYPE [SENDER]]' >&2; exit 2; }
speedsms sms/send --data-urlencode "content=$1" --data-urlencode "to=$2" \
    --data-urlencode "sms_type=${3:-2}" --data-urlencode "sender=${4-}"
