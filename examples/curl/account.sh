#!/usr/bin/env bash
# bash account.sh
source "$(dirname "$0")/speedsms.sh"
speedsms user/info
