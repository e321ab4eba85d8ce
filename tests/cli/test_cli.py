"""The commands as an operator types them: data on stdout, words on stderr, exit codes of experience §4."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import psycopg
import pytest

from speedsms.cli import COMMANDS, build
from speedsms.cli.terminal import neutral, table, vnd
from speedsms.gateway.store.messages import request_id

NOW = datetime(2026, 12, 7, 3, tzinfo=UTC)
REQUEST = request_id(123456, NOW)


def test_an_account_from_nothing_to_a_token(run):
    """The first steps of an operator, each of them repeatable."""
    for _ in range(2):
        code, account, _ = run("account", "create", "shop", "shop@example.com", "--json")
        assert (code, account["name"]) == (0, "shop")
        code, moved, _ = run("account", "topup", "shop", "500000", "--key", "pay-17", "--json")
        assert (code, moved["balance_vnd"]) == (0, 500_000)
    code, token, said = run("token", "create", "shop", "--scope", "send", "--json")
    assert code == 0
    assert token["token"].startswith("ss_live_")
    assert "only time" in said
    code, text, _ = run("token", "list")
    assert "ss_live_…" in text
    assert token["token"] not in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["account", "block", "nobody"], 1, "there is no account nobody"),
        (["account", "topup", "nobody", "1", "--key", "k"], 1, "there is no account"),
        (["message", "show", "1"], 1, "there is no request 1"),
        (["webhook", "disable", "1"], 1, "there is no endpoint 1"),
        (["config", "check", "--config", "/nowhere"], 3, "/nowhere is not a file"),
        (["webhook", "resend", "shop", "evt_1"], 1, "is no id of an event"),
        (["token", "create", "shop", "--allow-ip", "10.0.0.x"], 1, "10.0.0.x"),
        (["account", "set", "shop", "rate_limit"], 3, "write name=value"),
    ],
)
def test_a_refusal_has_one_line_and_a_code(run, words, code, said):
    """What is wrong, what to do, no traceback."""
    ended, out, err = run(*words)
    assert (ended, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_no_database_is_exit_code_4(run, monkeypatch):
    """A server that does not answer is told apart from a refusal."""
    monkeypatch.setenv("SPEEDSMS_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    code, _, err = run("account", "list")
    assert code == 4
    assert "does not answer" in err


def test_an_unmigrated_database_is_exit_code_3(run, admin_url):
    """The fix is named."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE price RENAME TO prices")
    code, _, err = run("price", "list")
    assert code == 3
    assert "speedsms migrate" in err


def _store_a_request(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        ((account,),) = connection.execute("SELECT id FROM account").fetchall()
        message = REQUEST << 7 | 1
        for sql in (
            f"""INSERT INTO request VALUES ({REQUEST}, 123456, {account}, 1, 'sms', 2, '',
                E'ma 493027\x1b[2J',
                'gsm7', 9, 1, 2, 250, 300, '{NOW}', NULL, false, '{NOW}')""",
            f"""INSERT INTO message (account_id, id, number, entry, carrier, price_vnd, pool, refund)
                VALUES ({account}, {message}, 84912345678, '091 234 5678', 2, 250, 1, false)""",
            f"INSERT INTO transfer VALUES ({account}, {REQUEST << 7}, 0, 2, 2, 3, 250, '{NOW}')",
            f"""INSERT INTO event VALUES ({account}, {message}, '{NOW}'::timestamptz + interval '30 ms',
                'sent', 1, 1, NULL, '{NOW}', NULL)""",
            f"""INSERT INTO final VALUES ({account}, {message}, 0, '{NOW}'::timestamptz + interval '2 s',
                'report')""",
            f"""INSERT INTO attempt_log VALUES ({account}, 'report', {message}, gen_random_uuid(), 1,
                '{NOW}'::timestamptz + interval '2100 ms', 1, 200, 45, 'delivered', '', NULL)""",
        ):
            connection.execute(sql)


def test_a_message_tells_its_story(run, database_url):
    """Acceptance, hold, attempt, end and webhook in order, in milliseconds; private parts on demand only."""
    run("account", "create", "shop", "shop@example.com")
    _store_a_request(database_url)
    code, text, _ = run("message", "show", "123456")
    assert code == 0
    order = [
        text.index(word)
        for word in ("accepted", "hold 250", "+30 ms", "+2000 ms", "webhook delivered", "45 ms")
    ]
    assert order == sorted(order)
    assert "84•••••678" in text
    assert not [private for private in ("84912345678", "5678", "493027") if private in text]
    _, text, _ = run("message", "show", "123456", "--show-pii")
    assert "84912345678" in text
    assert "ma 493027\\x1b[2J" in text
    _, story, _ = run("message", "show", "123456", "--json")
    assert story["recipients"][0]["state"] == "final 0"


def test_ledger_check_fails_when_money_is_missing(run, database_url):
    """Difference 0 is exit code 0; one đồng is exit code 1 and names the account."""
    run("account", "create", "shop", "shop@example.com")
    run("account", "topup", "shop", "1000", "--key", "a")
    code, text, _ = run("ledger", "check")
    assert (code, text) == (0, "1 accounts, difference 0 ₫\n")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE account SET balance_vnd = balance_vnd + 1")
    code, found, err = run("ledger", "check", "--json")
    assert (code, found["difference_vnd"], found["wrong"][0]["name"]) == (1, 1, "shop")
    assert "do not agree" in err


def test_doctor_says_what_is_missing(run):
    """A fresh database is sound, and everything that is not set up yet is named with its command."""
    code, found, _ = run("doctor", "--json")
    graded = {finding["what"]: finding["grade"] for finding in found}
    assert graded["schema"] == graded["clock"] == graded["database"] == "good"
    assert graded["accounts"] == graded["routes"] == "odd"
    assert code == (1 if "bad" in graded.values() else 0)


def test_doctor_names_a_blocked_channel(run, admin_url):
    """What the worker said of a channel is bad, with its cause and a command (CH-11)."""
    with psycopg.connect(admin_url) as connection:
        connection.execute("""UPDATE channel SET health = '{"state": "blocked", "cause": "window: odd"}'""")
    code, found, _ = run("doctor", "--json")
    (channel,) = (finding for finding in found if finding["what"] == "channel simulator")
    assert (channel["grade"], channel["said"], code) == ("bad", "blocked (window: odd)", 1)
    assert "speedsms channel test simulator" in channel["fix"]


def test_serve_checks_its_options(run):
    """A port that cannot be is a mistake in the command, before anything starts."""
    code, _, said = run("serve", "--demo", "--port", "70000")
    assert code
    assert "70000" in said


def test_config_show_masks_passwords(run):
    """The password of the database is starred out, and its source named."""
    _, rows, _ = run("config", "show", "--json")
    (url,) = (row for row in rows if row["setting"] == "database.url")
    assert url["source"] == "SPEEDSMS_DATABASE_URL"
    assert ":****@" in url["value"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.path)
def test_every_command_helps(command, capsys):
    """--help works for each, explains every option, and shows an example that names the command itself."""
    with pytest.raises(SystemExit) as ended:
        build()([*command.path.split(), "--help"], result_action="print_non_int_sys_exit")
    text = capsys.readouterr().out
    assert not ended.value.code
    assert command.example.startswith(command.path)
    assert "Example: speedsms" in text
    assert "--json" in text


def test_a_missing_extra_is_named():
    """Without the gateway's packages its commands say what to install; without [cli] all of them do."""
    for blocked, words, extra in (("psycopg", ["price", "list"], "gateway"), ("cyclopts", [], "cli")):
        script = f"import sys; sys.modules[{blocked!r}] = None; from speedsms.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3
        assert f'pip install "speedsms[{extra}]"' in done.stderr


def test_what_strangers_wrote_cannot_steer_a_terminal():
    """Control and direction characters are shown, not obeyed."""
    assert neutral("a\x1b[2J\u202e\nb\udcff") == "a\\x1b[2J\\u202e\\nb\\udcff"
    assert neutral("Đà Nẵng ₫") == "Đà Nẵng ₫"


def test_tables_line_up():
    """Columns are as wide as their widest cell; nothing is cut."""
    assert list(table([{"a": 1, "b": "xyz"}, {"a": None, "b": True}])) == ["A  B", "1  xyz", "-  yes"]
    assert list(table([])) == ["none"]
    assert vnd(1_000_000) == "1.000.000 ₫"


def test_an_endpoint_from_set_to_sample(run, database_url):
    """The same URL twice is one endpoint; rotation signs with both secrets; a sample waits to be posted."""
    run("account", "create", "shop", "shop@example.com")
    made = [
        run("webhook", "set", "shop", "report", "https://shop.example/hook", "--json")[1] for _ in range(2)
    ]
    assert made[0] == made[1]
    number = str(made[0]["id"])
    _, rotated, _ = run("webhook", "rotate", number, "--json")
    assert run("webhook", "test", number)[0] == 0
    with psycopg.connect(database_url) as connection:
        ((secrets,),) = connection.execute("SELECT secrets FROM endpoint").fetchall()
        ((waiting,),) = connection.execute("SELECT count(*) FROM outbox").fetchall()
    assert (secrets, waiting) == ([rotated["secret"], made[0]["secret"]], 1)
    run("webhook", "retire", number)
    run("webhook", "disable", number)
    _, (row,), _ = run("webhook", "list", "shop", "--json")
    assert (row["enabled"], row["disabled_why"]) == (False, "by an operator")
    assert "secret" not in json.dumps(row)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "ftp://shop.example", "http://10.0.0.1/", "http://a:b@shop.example"]
)
def test_an_endpoint_needs_a_public_address(run, url):
    """What webhooks must not reach is refused when it is set, and again when it is posted to."""
    run("account", "create", "shop", "shop@example.com")
    code, _, err = run("webhook", "set", "shop", "report", url)
    assert code == 1
    assert "name a public http or https URL" in err


def test_lists_are_loaded_from_files(run, tmp_path):
    """A file that is not there, and a line that does not fit, are refused in one line."""
    run("account", "create", "shop", "shop@example.com")
    (tmp_path / "moved.csv").write_text("0911000099,gmobile\n\n")
    assert run("portability", "load", "moved.csv")[0] == 1
    (tmp_path / "moved.csv").write_text("0911000099,gmobile\n")
    assert run("portability", "load", "moved.csv", "--json")[1] == {"loaded": 1}
    (tmp_path / "dnc.txt").write_text("0912345678\n0912345679\n")
    assert run("suppression", "load", "shop", "dnc.txt", "--json")[1] == {"loaded": 2}
    assert run("suppression", "load", "shop", "nowhere.txt")[0] != 0
