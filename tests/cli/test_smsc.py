"""`speedsms smsc` as people run it: plain lines, a journal, a script read again, a summary at the end."""

import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from speedsms.gateway.channels.smpp.pdu import Address, Bind, Command, SubmitSm, decode, encode, encode_bare
from speedsms.gateway.channels.smpp.smsc.journal import Line
from speedsms.gateway.cli.smsc import Printer

COMMAND = [sys.executable, "-c", "from speedsms.cli import main; main()", "smsc"]


@pytest.fixture
def start():
    """Runs the command on a free port: (process, port)."""
    running = []

    def start_(*words):
        process = subprocess.Popen(
            [*COMMAND, "--port", "0", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process, int(re.search(r"127\.0\.0\.1:(\d+)", process.stderr.readline())[1])

    yield start_
    for process in running:
        process.kill()
        process.communicate()


def asked(peer, octets):
    """Sends a PDU and reads the one that comes back."""
    peer.sendall(octets)
    return received(peer)


def received(peer):
    head = peer.recv(4, socket.MSG_WAITALL)
    return decode(head + peer.recv(int.from_bytes(head) - 4, socket.MSG_WAITALL))


def submit(number, sequence):
    return encode(SubmitSm(destination=Address(1, 1, number), registered_delivery=1), sequence)


def test_a_session_of_a_tester(start, tmp_path):
    """Bind, a message by script, another after SIGHUP; lines, journal and summary tell the same."""
    script, journal = tmp_path / "carrier.toml", tmp_path / "pdus.jsonl"
    script.write_text('[play]\nstatus = "RTHROTTLED"\n')
    process, port = start("--script", script, "--journal", journal)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        assert asked(peer, encode(Bind("transceiver", "shop", "geheim1"), 1)).status == 0
        assert asked(peer, submit("84912345678", 2)).status == 0x58
        for text, said in (("[play]\nstat = 1\n", "the old script stays"), ("", "is read again")):
            script.write_text(text)
            process.send_signal(signal.SIGHUP)
            assert said in process.stderr.readline()
        assert asked(peer, submit("84912345678", 3)).status == 0
        receipt = received(peer)
        assert receipt.command == Command.DELIVER_SM
        assert asked(peer, encode_bare(Command.UNBIND, 4)).command == Command.UNBIND_RESP
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(r"connection 1 → bind_transceiver #1", out)
    assert "submits    2: RTHROTTLED 1, ROK 1\n" in out
    assert "receipts   1 sent, 0 acknowledged" in out
    assert "geheim1" not in out + journal.read_text()
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [row["way"] for row in rows] == [
        *("open", "in", "out", "in", "out"),
        *("in", "out", "out", "in", "out", "close"),
    ]
    assert rows[4]["command"] == "submit_sm_resp"
    assert rows[4]["status"] == 0x58
    assert journal.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--script", "/nowhere.toml"], 3, "/nowhere.toml: No such file"),
        (["--tls-cert", "/nowhere.pem"], 3, "No such file"),
        (["--journal", "/nowhere/pdus.jsonl"], 3, "/nowhere/pdus.jsonl: No such file"),
        (["--host", "192.0.2.1"], 4, "192.0.2.1:2775"),
    ],
)
def test_what_cannot_be_played(words, code, said):
    """One line with the reason, and the exit code of experience §4."""
    ended = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == code
    assert said in ended.stderr
    assert ended.stdout == ""


def test_nobody_reads_ten_thousand_lines_a_second(capsys):
    """Fifty lines of a second are printed, then how many more there were."""
    printer, at = Printer(), int(time.time())
    for _ in range(120):
        printer.line(Line(at, 1, "in", encode_bare(Command.ENQUIRE_LINK, 1)))
    printer.line(Line(at + 1, 1, "close", b""))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 52
    assert lines[50] == "… and 70 lines more in that second"
    assert lines[51].endswith("connection 1 closed")
