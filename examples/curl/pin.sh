#!/usr/bin/env bash
# bash pin.sh create APP_ID NUMBER
# bash pin.sh verify APP_ID NUMBER PIN
source "$(dirname "$0")/speedsms.sh"
case $1:$# in
    create:3)
        speedsms pin/create --data-urlencode "app_id=$2" --data-urlencode "to=$3" \
            --data-urlencode 'content=Mã xác thực của bạn là {pin_code}'
        ;;
    verify:4)
        # Look at "verified" and at nothing else: a wrong PIN is answered with success too.
        reply=$(speedsms pin/verify --data-urlencode "app_id=$2" --data-urlencode "phone=$3" \
            --data-urlencode "pin_code=$4") || exit
        printf '%s\n' "$reply"
        [[ $reply == *'"verified":true'* ]]
        ;;
    *)
        echo 'usage: bash pin.sh create APP_ID NUMBER | verify APP_ID NUMBER PIN' >&2
        exit 2
        ;;
esac
