#!/usr/bin/env bash
# Post a signed sample to your own receiver, as the gateway would; prints the HTTP status, 204 if all is well.
# Receiving is no work for curl: see the other languages. WEBHOOK_SECRET is the receiver's whsec_….
#
#     bash webhook.sh http://127.0.0.1:9000/
#     bash webhook.sh http://127.0.0.1:9000/ '{"type":"sms","phone":"0912345678","content":"YES"}'
body=${2:-'{"type":"report","tranId":1234,"phone":"0912345678","status":0}'}
[[ $# -ge 1 && ${WEBHOOK_SECRET-} =~ ^whsec_[A-Za-z0-9+/]+=*$ ]] ||
    { echo 'usage: WEBHOOK_SECRET=whsec_… bash webhook.sh URL [BODY]' >&2; exit 2; }

id=evt_$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
timestamp=$(date +%s)
# openssl takes a key as an argument only, where everybody on the machine sees it: fit for a test secret.
key=$(base64 -d <<<"${WEBHOOK_SECRET#whsec_}" | od -An -v -tx1 | tr -d ' \n')
signature=$(printf '%s' "$id.$timestamp.$body" |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)

curl --silent --show-error --max-time 15 --output /dev/null --write-out '%{http_code}\n' \
    --header 'Content-Type: application/json; charset=UTF-8' --header "webhook-id: $id" \
    --header "webhook-timestamp: $timestamp" --header "webhook-signature: v1,$signature" --data-binary "$body" "$1"
