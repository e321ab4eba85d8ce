"""`send --file`: hostile files, what a report holds, and that nobody gets a message twice."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from speedsms.cli import bulk
from speedsms.cli.bulk import Meter
from speedsms.results import EntryState, Exchange

pytestmark = pytest.mark.usefixtures("gateway")
COMMAND = [sys.executable, "-c", "from speedsms.cli import main; main()"]
TEXT = ["--text", "Xin chao"]


def clock(*times_s):
    """Instead of the module `time`, where the meter reads it: other threads keep theirs."""
    return SimpleNamespace(monotonic=iter(times_s).__next__)


def phones(count, first=912_000_000):
    return [f"0{first + number}" for number in range(count)]


def written(path, *rows):
    path.write_text("".join(f"{row}\n" for row in rows), "utf8")
    return path


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [*csv.DictReader(file)]


def test_each_row_has_its_fate(typed, gateway, tmp_path):
    """Lost zeros are repaired; what a spreadsheet destroyed is flagged, not guessed; in the file's order."""
    written(
        tmp_path / "n.csv",
        "\ufeffname;phone",
        "An;912345678",
        "Binh;8.49E+10",
        "Chi;8,49e10",
        "Dung;0912345679.0",
        ";",
        "Em;'091 234 5680",
        '"a;b";84912345678',
        "Giang;12345",
        "Ha;",
        'I;"=HYPERLINK(1)"',
        "Khanh;0912345681",
    )
    code, data, err = typed("send", "--file", "n.csv", *TEXT, "--report", "out.csv", "--json")
    assert (code, data["rows"], data["accepted"], data["invalid"], data["duplicate"]) == (0, 10, 3, 6, 1)
    assert [message.e164 for message in gateway.messages] == ["84912345678", "84912345680", "84912345681"]
    rows = read(tmp_path / "out.csv")
    states = ["accepted", *["invalid"] * 3, "accepted", "duplicate", *["invalid"] * 3, "accepted"]
    assert [row["state"] for row in rows] == states
    assert rows[1]["line"] == "3"
    assert "digits are lost" in rows[1]["note"]
    assert rows[8]["entry"] == "'=HYPERLINK(1)"
    assert "line 3: a spreadsheet rounded it" in err
    assert "912345678" not in err


HOSTILE = {
    "empty": (b"", "'phone' is not in the file"),
    "no such column": (b"number\n0912345678\n", "its first line names 'number'"),
    "twice": (b"phone,phone\n0912345678,1\n", "is twice"),
    "UTF-16": ("phone\n0912345678\n".encode("utf-16"), "not UTF-8"),
    "windows-1258": (b"phone,name\n0912345678,\xd0\xe0\n", "not UTF-8"),
    "huge field": (b"phone\n" + b"9" * 200_000 + b"\n", "is no CSV"),
    "huge header": (b"a" * 300_000, "is no CSV"),
    "open quote": (b'phone\n"0912345678\n0912345679\n', "a quote that is not closed"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_file_that_cannot_be_read_sends_nothing(typed, gateway, tmp_path, kind, words):
    """The whole file is looked at before the first number of it is called; one line says what is wrong."""
    content, said = HOSTILE[kind]
    (tmp_path / "n.csv").write_bytes(content)
    code, out, err = typed("send", "--file", "n.csv", *TEXT, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not gateway.messages


def test_control_characters_stay_out(typed, gateway, tmp_path):
    """NUL and escapes neither reach the service nor the terminal, and harm no other row."""
    (tmp_path / "n.csv").write_bytes(
        b"phone\n0912345678\n09123\x0045679\n\x1b[2J0912\n0912345680\n" + b"9" * 5000
    )
    code, out, err = typed("send", "--file", "n.csv", *TEXT, "--report", "out.csv", "--show-pii")
    assert code == 0
    assert not [c for c in out + err if not c.isprintable() and c != "\n"]
    assert len(gateway.messages) == 2
    assert [row["state"] for row in read(tmp_path / "out.csv")].count("invalid") == 3


def test_a_report_has_no_formula(typed, tmp_path):
    """Whatever stood in the file opens as text, and numbers stay numbers."""
    entries = ["=1+1", "-1+1", "@SUM(A1)", "+84912345678", '"\tx"']
    written(tmp_path / "n.csv", "phone", *entries)
    typed("send", "--file", "n.csv", *TEXT, "--report", "out.csv")
    assert [row["entry"] for row in read(tmp_path / "out.csv")] == [
        "'=1+1",
        "'-1+1",
        "'@SUM(A1)",
        "+84912345678",
        "x",
    ]


def test_an_earlier_run_is_not_repeated_by_accident(typed, gateway, tmp_path):
    """Without --resume a journal stops the command, with it everybody who has the message is left alone."""
    written(tmp_path / "n.csv", "phone", *phones(150))
    assert typed("send", "--file", "n.csv", *TEXT)[0] == 0
    code, _, err = typed("send", "--file", "n.csv", *TEXT)
    assert code == 1
    assert "--resume" in err
    code, data, _ = typed("send", "--file", "n.csv", *TEXT, "--resume", "--json")
    assert (code, data["accepted"]) == (0, 150)
    assert typed("send", "--file", "n.csv", "--text", "another", "--resume")[0] == 3
    assert typed("send", "--file", "n.csv", "--template", "{phone}", "--resume")[0] == 3
    assert len(gateway.messages) == 150


def test_a_template_speaks_to_each_row(typed, gateway, tmp_path):
    """Neighbours with the same text share a request; a text that cannot be sent stops its own rows only."""
    names = ["An", "An", "Bình", "An", "\x07", "x" * 2000, ""]
    rows = [f"{phone},{name}" for phone, name in zip(phones(7), names, strict=True)]
    written(tmp_path / "n.csv", "phone,name", *rows)
    words = ["send", "--file", "n.csv", "--template", "Chào {name}{name}!", "--report", "out.csv", "--json"]
    code, data, _ = typed(*words)
    assert (code, data["accepted"], data["invalid"], data["rejected"]) == (1, 4, 2, 1)
    assert [message.content for message in gateway.messages] == [
        f"Chào {name}{name}!" for name in ("An", "An", "Bình", "An")
    ]
    assert len({message.tran_id for message in gateway.messages}) == 3
    assert read(tmp_path / "out.csv")[5]["code"] == "113"
    assert "its 'name' is empty" in read(tmp_path / "out.csv")[6]["note"]
    assert typed(*words, "--resume")[1]["accepted"] == 4
    assert len(gateway.messages) == 4


def test_a_template_names_columns(typed, tmp_path):
    """A name that is no column is refused before anything is sent, and no name reaches into Python."""
    written(tmp_path / "n.csv", "phone,name", "0912345678,An")
    for template in ("{nam}", "{name.__class__}", "{0}"):
        code, _, err = typed("send", "--file", "n.csv", "--template", template)
        assert code == 2
        assert "is not in the file" in err


def test_what_stands_for_all_ends_the_run(typed, gateway, tmp_path):
    """Without money no further text is tried; the rest is resumed once there is some."""
    gateway.accounts[0].balance_vnd = 500
    written(tmp_path / "n.csv", "phone", *phones(5))
    words = ["send", "--file", "n.csv", "--template", "{phone}", "--report", "out.csv", "--json"]
    code, data, err = typed(*words)
    assert (code, data["accepted"], data["rejected"]) == (1, 2, 3)
    assert "300" in err
    assert {row["code"] for row in read(tmp_path / "out.csv")} == {"", "300"}
    gateway.accounts[0].balance_vnd = 1_000_000
    code, data, _ = typed(*words, "--resume")
    assert (code, data["accepted"]) == (0, 5)
    assert Counter(message.e164 for message in gateway.messages).most_common(1)[0][1] == 1


def test_a_cut_off_call_is_repeated_with_its_key(typed, gateway, tmp_path):
    """The reply got lost: exit code 5, and --resume learns what became of it without sending again."""
    written(tmp_path / "n.csv", "phone", *phones(10))
    gateway.fail_next(reset=True, accepted=True)
    assert typed("send", "--file", "n.csv", *TEXT)[0] == 5
    code, data, _ = typed("send", "--file", "n.csv", *TEXT, "--resume", "--json")
    assert (code, data["accepted"]) == (0, 10)
    assert len(gateway.messages) == 10


def test_ctrl_c_then_resume(gateway, tmp_path):
    """Interrupted in the middle and taken up again, everybody gets it exactly once."""
    numbers = phones(1000)
    written(tmp_path / "n.csv", "phone", *numbers)
    gateway.accounts[0].rate_limit = 3  # so that the command is still there when it is interrupted
    words = [*COMMAND, "send", "--file", "n.csv", *TEXT, "--report", "out.csv"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with gateway.changed:
        assert gateway.changed.wait_for(lambda: len(gateway.messages) == 300, 60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "--resume goes on" in err
    assert "Traceback" not in err
    gateway.accounts[0].rate_limit = 10_000
    done = subprocess.run([*words, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1000 accepted, 250.000 ₫\n")
    got = Counter(message.e164 for message in gateway.messages)
    assert got == Counter(f"84{number[1:]}" for number in numbers)
    assert len(read(tmp_path / "out.csv")) == 1000


def test_real_exit_codes(tmp_path):
    """As a shell sees them."""
    for words, code in (
        (["balance"], 0),
        (["balance", "--base-url", "http://127.0.0.1:1"], 4),
        (["send"], 2),
        (["send", "--file", "/nowhere.csv", *TEXT], 2),
        (["send", "--file", os.devnull, *TEXT], 2),
        (["otp", "check", "0912345678", "1", "--app-id", "nope"], 1),
    ):
        done = subprocess.run([*COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_report_that_cannot_be_written(typed, gateway, tmp_path):
    """It is opened before anything is sent."""
    written(tmp_path / "n.csv", "phone", "0912345678")
    code, _, err = typed("send", "--file", "n.csv", *TEXT, "--report", "nowhere/out.csv")
    assert code == 3
    assert "nowhere/out.csv cannot be written" in err
    assert not gateway.messages


def test_progress_tells_the_time_left(monkeypatch, capsys):
    """In place on a terminal: how far, how many of which, how fast, how long still."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(bulk, "time", clock(0.0, 10.0, 20.0))
    meter = Meter(1000)
    meter.show(Counter({EntryState.ACCEPTED: 90, EntryState.INVALID: 10}))
    meter.show(Counter({EntryState.ACCEPTED: 490, EntryState.INVALID: 10}))
    lines = capsys.readouterr().err.split("\r")
    assert "[##..................] 100/1000, 90 accepted, 10 invalid, 10/s, 1:30 left" in "".join(lines)
    assert "[##########..........] 500/1000, 490 accepted, 10 invalid, 25/s, 0:20 left" in "".join(lines)


def test_a_report_spoils_nothing(typed, gateway, tmp_path):
    """The list and journals are never written over, by whatever name; an earlier report stays if refused."""
    written(tmp_path / "n.csv", "phone", *phones(2))
    (tmp_path / "soft.csv").symlink_to("n.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "n.csv")
    list_ = (tmp_path / "n.csv").read_bytes()
    names = ["n.csv", "./n.csv", "soft.csv", "hard.csv", "n.csv.journal"]
    for report in names:
        for words in ([], ["--dry-run"]):
            code, _, err = typed("send", "--file", "n.csv", *TEXT, "--report", report, *words)
            assert code == 2
            assert "--report would overwrite" in err
    assert not gateway.messages
    assert (tmp_path / "n.csv").read_bytes() == list_
    assert typed("send", "--file", "n.csv", *TEXT, "--report", "out.csv")[0] == 0
    kept = [tmp_path / name for name in ("n.csv.journal", "out.csv")]
    before = [path.read_bytes() for path in kept]
    written(tmp_path / "m.csv", "phone", *phones(1))
    assert typed("send", "--file", "m.csv", *TEXT, "--report", "n.csv.journal")[0] == 2
    assert typed("send", "--file", "n.csv", *TEXT, "--report", "out.csv")[0] == 1
    assert typed("send", "--file", "n.csv", "--text", "other", "--resume", "--report", "out.csv")[0] == 3
    assert [path.read_bytes() for path in kept] == before
    assert typed("send", "--file", "n.csv", *TEXT, "--resume", "--report", "out.csv")[0] == 0
    assert [row["state"] for row in read(tmp_path / "out.csv")] == ["accepted"] * 2
    assert (tmp_path / "out.csv").read_bytes().count(b"\xef\xbb\xbf") == 1


def test_a_text_with_a_hole_is_not_sent(typed, gateway, tmp_path):
    """A row that lacks what the template uses, or whose cells moved, is reported; its neighbours stay one."""
    rows = ["0912000000,An,", "0912000001", "0912000002, ,x", "0912000003,An", "0912000004,An,1,2"]
    written(tmp_path / "n.csv", "phone,name,more", *rows)
    words = ["send", "--file", "n.csv", "--template", "{{Hi}} {name}", "--report", "out.csv"]
    _, survey, _ = typed(*words, "--dry-run", "--json")
    assert (survey["usable"], survey["texts"]) == (2, 1)
    code, data, err = typed(*words, "--json")
    assert (code, data["accepted"], data["invalid"]) == (0, 2, 3)
    assert "line 3: its 'name' is empty" in err
    assert [message.content for message in gateway.messages] == ["{Hi} An"] * 2
    assert len({message.tran_id for message in gateway.messages}) == 1
    notes = [row["note"] for row in read(tmp_path / "out.csv")]
    assert notes[1:3] == ["its 'name' is empty"] * 2
    assert "more cells" in notes[4]


@pytest.mark.parametrize(
    ("template", "at"), [("a {name", 3), ("name} b", 5), ("{}", 1), ("{{name}", 7), ("{name}}", 7)]
)
def test_half_a_brace_is_refused(typed, gateway, tmp_path, template, at):
    """It would be sent as it stands; the place is named."""
    written(tmp_path / "n.csv", "phone,name", "0912345678,An")
    for words in ([], ["--dry-run"]):
        code, out, err = typed("send", "--file", "n.csv", "--template", template, *words)
        assert (code, out) == (2, "")
        assert f"at character {at} of the template" in err
    assert not gateway.messages


def test_a_dry_run_of_a_file_refuses_what_the_service_would(typed, tmp_path):
    """No number that could be used, or a text of more parts than its type has."""
    written(tmp_path / "n.csv", "phone", "abc", "12345")
    code, _, err = typed("send", "--file", "n.csv", *TEXT, "--dry-run")
    assert code == 1
    assert "no number can be used" in err
    written(tmp_path / "n.csv", "phone", "0912345678")
    for type_, code in (("1", 1), ("2", 0)):
        assert typed("send", "--file", "n.csv", "--text", "a" * 600, "--type", type_, "--dry-run")[0] == code


def test_tabs_and_a_missing_line_of_names(typed, gateway, tmp_path):
    """What a spreadsheet copies has tabs; numbers alone lack a line above them, and are not shown."""
    written(tmp_path / "n.csv", "name\tphone", "An, Binh\t0912345678")
    code, out, err = typed("send", "--file", "n.csv", *TEXT)
    assert (code, len(gateway.messages)) == (0, 1)
    assert "1 row, 1 usable number, 1 text, 1 part\n" in err
    written(tmp_path / "m.csv", "0912345678", "0912345679")
    code, out, err = typed("send", "--file", "m.csv", *TEXT)
    assert (code, out) == (2, "")
    assert "add a line of names above it, such as phone" in err
    assert "0912345678" not in err


def test_resume_with_something_else_says_how_to_go_on(typed, tmp_path):
    """Give the same again, or delete the journal, which is named."""
    written(tmp_path / "n.csv", "phone", "0912345678")
    typed("send", "--file", "n.csv", *TEXT)
    for words in (["--text", "other"], ["--template", "{phone}"]):
        code, _, err = typed("send", "--file", "n.csv", *words, "--resume")
        assert code == 3
        assert "delete n.csv.journal" in err
    written(tmp_path / "n.csv", "phone", "0912345679")
    assert "delete n.csv.journal" in typed("send", "--file", "n.csv", *TEXT, "--resume")[2]


def test_rows_of_an_earlier_run_are_no_speed(monkeypatch, capsys):
    """What was remembered took no time, and says nothing about the time left."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(bulk, "time", clock(0.0, 10.0))
    Meter(1000).show(Counter({EntryState.ACCEPTED: 900}), 800)
    assert "900/1000, 900 accepted, 10/s, 0:10 left" in capsys.readouterr().err


def test_resumed_rows_are_known_as_such(typed, tmp_path, monkeypatch):
    """All of a run that was complete."""
    written(tmp_path / "n.csv", "phone", *phones(150))
    seen = []
    monkeypatch.setattr(Meter, "show", lambda _self, states, earlier: seen.append((states.total(), earlier)))
    typed("send", "--file", "n.csv", *TEXT)
    typed("send", "--file", "n.csv", *TEXT, "--resume")
    assert (seen[149], seen[299]) == ((150, 0), (150, 150))


def test_waiting_is_said_once_a_minute(monkeypatch, capsys):
    """The limit, and a service that is away; an ordinary reply is no news."""
    monkeypatch.setattr(bulk, "time", clock(0.0, 1.0, 2.0, 3.0, 70.0))
    meter = Meter(1)
    for status in (200, 429, 429, None, 429):
        meter.heard(Exchange("POST", "/sms/send", 1, status, None if status else "ConnectError", 0.1))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == ["rate", "service", "rate"]
    assert "waiting" in lines[0]


def test_a_file_tells_that_it_waits(typed, gateway, tmp_path):
    """The client's exchanges reach the meter."""
    written(tmp_path / "n.csv", "phone", "0912345678")
    gateway.fail_next(reset=True)
    assert "the service is away" in typed("send", "--file", "n.csv", *TEXT)[2]
