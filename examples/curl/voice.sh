#!/usr/bin/env bash
# bash voice.sh NUMBER DIGITS: bash voice.sh 0912345678 493027
source "$(dirname "$0")/speedsms.sh"
[ $# -eq 2 ] || { echo 'usage: bash voice.sh NUMBER DIGITS' >&2; exit 2; }
speedsms voice/otp --data-urlencode "to=$1" --data-urlencode "content=$2"
