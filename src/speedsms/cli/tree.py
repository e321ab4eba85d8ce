"""Which commands there are. Each is named by import path and loaded only when it runs."""

from typing import Final, NamedTuple

GATEWAY: Final = "speedsms.gateway.cli."


class Command(NamedTuple):
    """`path` as typed, `target` as `module:function`, one line of help, one example that works."""

    path: str
    target: str
    help: str
    example: str


GROUPS: Final = {
    "otp": "One-time passwords that the service makes and checks.",
    "trigger": "Events made up, to try a receiver with.",
    "account": "Tenants and their money.",
    "token": "Access tokens of the API.",
    "sender": "Brandnames, numbers and devices.",
    "price": "What a part, a call or an MMS costs.",
    "channel": "The ways out.",
    "route": "Which messages take which way out.",
    "receipt": "What carriers said that matches no message.",
    "portability": "Numbers that changed their carrier.",
    "suppression": "Numbers that are not written to.",
    "webhook": "Endpoints of customers.",
    "message": "What became of messages.",
    "ledger": "The books.",
    "config": "Settings.",
}

_INTEGRATORS: Final = (
    (
        "login",
        "account:login",
        "Keep a token in the profile file, once it is proven to work.",
        "login --base-url http://127.0.0.1:8100",
    ),
    ("logout", "account:logout", "Forget a profile's token.", "logout --profile shop"),
    ("balance", "account:balance", "Show the account and its money.", "balance"),
    (
        "send",
        "send:send",
        "Send an SMS to some numbers, or to all numbers of a file.",
        "send 0912345678 --text 'Xin chao'",
    ),
    ("voice", "calls:voice", "Call a number and read a code out.", "voice 0912345678 493027"),
    (
        "mms",
        "calls:mms",
        "Send a picture by its link.",
        "mms 0912345678 --text 'Xin chao' --link https://shop.example/a.jpg --sender MYSHOP",
    ),
    ("status", "calls:status", "Show what became of a request.", "status 123456 --wait 30"),
    (
        "otp start",
        "calls:otp_start",
        "Send a PIN.",
        "otp start 0912345678 --text 'Ma cua ban: {pin_code}' --app-id APP",
    ),
    (
        "otp check",
        "calls:otp_check",
        "Check the PIN that somebody typed.",
        "otp check 0912345678 493027 --app-id APP",
    ),
    (
        "segments",
        "text:segments_",
        "Show how a text is coded and cut into billed parts.",
        "segments 'Xin chào'",
    ),
    (
        "listen",
        "listen:listen",
        "Bring webhooks to a URL of this machine, signed.",
        "listen --forward-to http://127.0.0.1:8000/hook",
    ),
    (
        "trigger report",
        "listen:trigger_report",
        "Make a delivery report.",
        "trigger report --phone 0912345678 --status 69",
    ),
    (
        "trigger sms",
        "listen:trigger_sms",
        "Make an incoming message.",
        "trigger sms --phone 0912345678 --content YES",
    ),
    (
        "completion",
        "completion:completion",
        "Print what makes a shell complete these commands.",
        "completion bash",
    ),
)

_OPERATORS: Final = (
    ("dev", "serve:dev", "Start a gateway to play with: database, simulator, account, token.", "dev"),
    (
        "serve",
        "serve:serve",
        "Start the gateway, with its own database unless one is set.",
        "serve --role api",
    ),
    ("migrate", "database:migrate", "Bring the tables up to this release.", "migrate --phase pre"),
    (
        "backup",
        "database:backup",
        "Write the database into a new directory.",
        "backup /var/backups/sms-1",
    ),
    (
        "restore",
        "database:restore",
        "Bring a backup into an empty database.",
        "restore /var/backups/sms-1",
    ),
    ("drain", "drain:drain", "Do everything that is due now, in this process, and end.", "drain"),
    (
        "smsc",
        "smsc:smsc",
        "Play a carrier: an SMPP server to test clients with.",
        "smsc --script carrier.toml",
    ),
    ("doctor", "doctor:doctor", "Look for what is wrong with this installation.", "doctor"),
    ("account create", "account:create", "Make an account.", "account create shop shop@example.com"),
    ("account list", "account:list_", "Show all accounts.", "account list --json"),
    ("account set", "account:set_", "Change an account's settings.", "account set shop rate_limit=120"),
    (
        "account topup",
        "account:topup",
        "Add money, once per key.",
        "account topup shop 500000 --key pay-17",
    ),
    (
        "account adjust",
        "account:adjust",
        "Correct a balance.",
        "account adjust shop -250 --key 'case 12'",
    ),
    ("account block", "account:block", "Refuse all calls of an account.", "account block shop"),
    ("account unblock", "account:unblock", "Allow them again.", "account unblock shop"),
    ("token create", "token:create", "Make a token; it is shown once.", "token create shop --test"),
    ("token import", "token:import_", "Bring a token along.", "token import shop < token.txt"),
    ("token list", "token:list_", "Show tokens, never their text.", "token list --account shop"),
    ("token revoke", "token:revoke", "End a token.", "token revoke 3"),
    ("sender add", "sender:add", "Register a sender as pending.", "sender add shop brandname MYSHOP"),
    ("sender approve", "sender:approve", "Allow its use.", "sender approve shop MYSHOP"),
    ("sender suspend", "sender:suspend", "Stop its use.", "sender suspend shop MYSHOP"),
    ("sender list", "sender:list_", "Show senders.", "sender list --account shop"),
    ("price set", "price:set_", "Set a price in VND.", "price set sms 250 --type 2"),
    ("price list", "price:list_", "Show the price table.", "price list"),
    (
        "channel apply",
        "channel:apply",
        "Make channels and routes what the settings' file declares.",
        "channel apply speedsms.toml",
    ),
    (
        "channel test",
        "trial:trial",
        "Bind to a carrier, show the exchange in plain words, and send one message if asked.",
        "channel test viettel --to 0912345678",
    ),
    ("channel add", "channel:add", "Configure a way out.", "channel add sim sim rate=50"),
    ("channel set", "channel:set_", "Change its settings.", "channel set sim rate=100"),
    ("channel enable", "channel:enable", "Use it.", "channel enable sim"),
    (
        "channel disable",
        "channel:disable",
        "Use it no more; messages wait or go elsewhere.",
        "channel disable sim",
    ),
    ("channel list", "channel:list_", "Show channels and their health.", "channel list"),
    (
        "channel show",
        "channel:show_",
        "Show one channel's health, limits and routes.",
        "channel show viettel",
    ),
    (
        "route add",
        "route:add",
        "Send matching messages to a channel.",
        "route add sim --carrier viettel --cost 180",
    ),
    ("route remove", "route:remove", "Take a route away.", "route remove 4"),
    ("route list", "route:list_", "Show routes in the order of use.", "route list"),
    (
        "route explain",
        "route:explain",
        "Say which way a message to a number takes, and why.",
        "route explain 0912345678 --type 3",
    ),
    (
        "receipt list",
        "receipt:list_",
        "Show receipts that match no message yet.",
        "receipt list --channel viettel",
    ),
    ("receipt retry", "receipt:retry", "Look at them again now.", "receipt retry --all"),
    (
        "portability load",
        "numbers:portability",
        "Load `number,carrier` lines.",
        "portability load moved.csv",
    ),
    (
        "suppression add",
        "numbers:suppress",
        "Stop writing to a number.",
        "suppression add shop 0912345678",
    ),
    (
        "suppression load",
        "numbers:suppress_file",
        "The same for a file.",
        "suppression load shop dnc.txt",
    ),
    ("suppression remove", "numbers:release", "Write to it again.", "suppression remove shop 0912345678"),
    (
        "webhook set",
        "webhook:set_",
        "Add an endpoint.",
        "webhook set shop report https://shop.example/hook",
    ),
    ("webhook list", "webhook:list_", "Show endpoints.", "webhook list shop"),
    ("webhook test", "webhook:sample", "Post a sample to an endpoint.", "webhook test 2"),
    (
        "webhook replay",
        "webhook:replay",
        "Post dead letters again.",
        "webhook replay 2 --since 2026-11-01",
    ),
    ("webhook resend", "webhook:resend", "Post one event again.", "webhook resend shop EVENT"),
    ("webhook rotate", "webhook:rotate", "Sign with a new secret beside the old.", "webhook rotate 2"),
    ("webhook retire", "webhook:retire", "Sign with the newest secret alone.", "webhook retire 2"),
    ("webhook enable", "webhook:enable", "Post to an endpoint again.", "webhook enable 2"),
    ("webhook disable", "webhook:disable", "Post nothing more to it.", "webhook disable 2"),
    ("message show", "message:show_", "Tell the whole story of a request.", "message show 123456"),
    ("ledger check", "ledger:check", "Prove that the books agree.", "ledger check"),
    ("config show", "config:show_", "Show every setting and where it comes from.", "config show"),
    (
        "config check",
        "config:check",
        "Read the settings and say what is wrong.",
        "config check --config my.toml",
    ),
)

COMMANDS: Final = tuple(
    Command(path, below + target, help_, example)
    for below, rows in (("speedsms.cli.", _INTEGRATORS), (GATEWAY, _OPERATORS))
    for path, target, help_, example in rows
)
