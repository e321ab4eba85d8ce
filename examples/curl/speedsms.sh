# The SpeedSMS API with bash 4 and curl: `source` this file. Prints the reply's JSON; what is refused goes to stderr.
#
#     export SPEEDSMS_BASE_URL=https://sms.example SPEEDSMS_TOKEN=ss_live_…
#     speedsms sms/send --data-urlencode 'to=0912345678' --data-urlencode 'content=Xin chào' -d sms_type=2
#
# Parameters travel as a form: curl encodes them, so no quote or accent of a text can break anything. Ends with 0 if it
# is done, 1 if it was refused (nothing was sent or charged), 5 if nobody can tell.

speedsms() { # speedsms PATH [CURL OPTION]…
    local path=$1 base=${SPEEDSMS_BASE_URL:-http://127.0.0.1:8100} key try wait_s line status reason reply unknown=''
    shift
    [[ ${SPEEDSMS_TOKEN-} =~ ^[A-Za-z0-9_-]+$ ]] || { echo 'set SPEEDSMS_TOKEN' >&2; return 2; }
    # Over plain HTTP everybody on the way reads the token.
    [[ $base =~ ^(https://|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?(/|$)) ]] ||
        { echo 'SPEEDSMS_BASE_URL: use https:// (http:// only on this machine)' >&2; return 2; }
    key=${IDEMPOTENCY_KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')} # IDEMPOTENCY_KEY: to repeat an earlier try
    [[ $key =~ ^[[:graph:]]{1,255}$ ]] || { echo 'a key is 1 to 255 printable ASCII characters' >&2; return 2; }

    # Repeating is safe because every try has the same key and the same bytes: the gateway carries a key out once. Of a
    # service whose replies lack the header "X-Speedsms-Contract: 1" that is not known: try once only there.
    for try in 1 2 3; do
        [ $try = 1 ] || sleep "$wait_s"
        # The token goes through a file descriptor, because everybody on this machine can read a command line.
        reply=$(curl --silent --show-error --include --http1.1 --connect-timeout 5 --max-time 30 \
            --config <(printf 'user = "%s:x"\n' "$SPEEDSMS_TOKEN") --header "Idempotency-Key: $key" \
            "$@" "${base%/}/index.php/$path") || reply='HTTP/1.1 000'
        wait_s=$try
        while IFS= read -r line; do # headers, an empty line, the body
            line=${line%$'\r'}
            case ${line,,} in
                http/1.*) status=${line#* } status=${status%% *} reason='' ;;
                x-speedsms-reason:*) reason=${line#*: } ;;
                retry-after:*) [[ ${line#*: } =~ ^[12]?[0-9]$ ]] && wait_s=${line#*: } || wait_s=30 ;;
                '{'*) reply=$line ;;
            esac
        done <<<"$reply"
        case $status:$reply in
            200:'{"status":"success"'*) printf '%s\n' "$reply"; return 0 ;;
            200:'{"status":"error","code":"500"'* | 429:*) ;; # nothing happened
            409:*) unknown=yes ;;                             # a try with this key is still running
            200:'{"status":"error"'* | 4[0-9][0-9]:*) break ;;
            *) unknown=yes ;; # it may have been carried out
        esac
    done
    [ -z "$unknown" ] || { echo "unknown: HTTP $status; repeat it with IDEMPOTENCY_KEY=$key" >&2; return 5; }
    printf 'refused: %s %s\n' "$reason" "$reply" >&2
    return 1
}
