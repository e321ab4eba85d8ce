#!/usr/bin/env bash
# Shapes S4 to S12 of spec/protocol.md §5.2 with curl, to prove that programs that speak so keep working; new ones start
# from ../curl/speedsms.sh. The token stands in the command line here, where everybody on this machine can read it.
#
#     bash shapes.sh SHAPE NUMBER      # the text is: Xin chào bạn S4
url=$SPEEDSMS_BASE_URL/index.php/sms/send token=$SPEEDSMS_TOKEN to=$2
text="Xin chào bạn $1" encoded="Xin+ch%C3%A0o+b%E1%BA%A1n+$1"
json='Content-Type: application/json'
call=(curl --silent --show-error --max-time 30)
case $1 in
    S4) # `brandname`; the misspelt type is ignored, so that it is type 2
        "${call[@]}" -u "$token:x" -H "$json" "$url" \
            -d '{"to":["'"$to"'"],"content":"'"$text"'","sms_tye":3,"brandname":""}' ;;
    S5) # both spellings: `sms_type` wins
        "${call[@]}" -u "$token:x" -H "$json" "$url" \
            -d '{"to":["'"$to"'"],"content":"'"$text"'","sms_type":2,"type":3,"sender":""}' ;;
    S6) # the numbers in one string
        "${call[@]}" -u "$token:x" -H "$json" "$url" -d '{"to":"'"$to"'","content":"'"$text"'","sms_type":2}' ;;
    S7) # a form, `to` repeated
        "${call[@]}" -u "$token:x" "$url" -d "to=$to" -d "to=$to" -d "content=$encoded" -d sms_type=2 -d sender= ;;
    S8) # a form, `type`
        "${call[@]}" -u "$token:x" "$url" -d "to=$to" -d "content=$encoded" -d type=2 ;;
    S9) # POST with everything in the query and an empty body
        "${call[@]}" -u "$token:x" -X POST "$url?to=$to&content=$encoded" ;;
    S10) # GET, the token in the query
        "${call[@]}" "$url?access-token=$token&to=$to&content=$encoded&type=2" ;;
    S11) # GET, the numbers joined by commas
        "${call[@]}" -u "$token:x" "$url?to=$to,$to&content=$encoded" ;;
    S12) # JSON that says it is a form
        "${call[@]}" -u "$token:x" "$url" -d '{"to":["'"$to"'"],"content":"'"$text"'","sms_type":2}' ;;
    *)
        echo 'usage: bash shapes.sh S4…S12 NUMBER' >&2
        exit 2 ;;
esac
echo
