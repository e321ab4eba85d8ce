#!/usr/bin/env bash
# bash mms.sh TEXT LINK DEVICE NUMBERS: bash mms.sh 'Xin chào' https://shop.example/a.jpg DEVICE 0912345678,0987654321
source "$(dirname "$0")/speedsms.sh"
[ $# -eq 4 ] || { echo 'usage: bash mms.sh TEXT LINK DEVICE NUMBERS' >&2; exit 2; }
speedsms mms/send --data-urlencode "content=$1" --data-urlencode "link=$2" \
    --data-urlencode "sender=$3" --data-urlencode "to=$4"
