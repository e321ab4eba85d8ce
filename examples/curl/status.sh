#!/usr/bin/env bash
# bash status.sh TRAN_ID: 0 waiting, 1 sent, 2 delivered, 3 failed. Another scale than the webhook's, where 0 is delivered.
source "$(dirname "$0")/speedsms.sh"
[[ $# -eq 1 && $1 =~ ^[0-9]+$ ]] || { echo 'usage: bash status.sh TRAN_ID' >&2; exit 2; }
speedsms "sms/status/$1"
