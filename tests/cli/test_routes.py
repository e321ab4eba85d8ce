"""`route explain` says what dispatch does, and `receipt …` shows what matched nothing."""

import json
from datetime import UTC, datetime

import psycopg
import pytest

NOW = datetime(2026, 12, 7, 3, tzinfo=UTC)


@pytest.fixture
def tell(admin_url):
    """Writes a channel's health, as a worker would."""

    def tell_(name, **health):
        with psycopg.connect(admin_url) as connection:
            connection.execute("UPDATE channel SET health = %s WHERE name = %s", [json.dumps(health), name])

    return tell_


@pytest.fixture
def table(run, tell):
    """Three channels, two of them up."""
    for name, state in (("dear", "up"), ("cheap", "up"), ("away", "down")):
        run("channel", "add", name, "sim")
        tell(name, state=state, **({"cause": "connection refused"} if state == "down" else {}))
    run("route", "add", "away", "--priority", "5")
    run("route", "add", "dear", "--cost", "200")
    run("route", "add", "cheap", "--cost", "100", "--carrier", "vinaphone")
    run("route", "add", "dear", "--priority", "1", "--type", "4")


def _explained(run, *words):
    _, found, _ = run("route", "explain", *words, "--json")
    return found, [(step["channel"], step["turn"]) for step in found["routes"]]


@pytest.mark.usefixtures("table")
def test_the_cheapest_of_the_best_that_is_up_takes_it(run):
    """Each route says fits or why not; a channel that is down is passed over."""
    found, turns = _explained(run, "0912345678")
    assert (found["number"], found["carrier"], found["carrier_by"]) == (
        "84912345678",
        "vinaphone",
        "its prefix",
    )
    assert turns == [("dear", 0), ("away", 0), ("cheap", 1), ("dear", 2)]
    why = [step["why"] for step in found["routes"]]
    assert why[0] == "it is for type 4 only"
    assert "down (connection refused)" in why[1]
    _, text, err = run("route", "explain", "0912345678")
    assert "cheap takes the message now; if it refuses: dear" in text
    assert "no worker runs" in err


@pytest.mark.usefixtures("table")
def test_a_moved_number_follows_portability(run, tmp_path):
    """The carrier, and so the route, is that of the portability table."""
    (tmp_path / "moved.csv").write_text("0912345678,viettel\n")
    run("portability", "load", "moved.csv")
    found, turns = _explained(run, "+84 912 345 678")
    assert (found["carrier"], found["carrier_by"]) == ("viettel", "its entry in portability")
    assert turns == [("dear", 0), ("away", 0), ("cheap", 0), ("dear", 1)]


@pytest.mark.usefixtures("table")
def test_nobody_takes_what_no_channel_can(run):
    """Then the message waits, and that is said."""
    for name in ("dear", "cheap"):
        run("channel", "disable", name)
    found, turns = _explained(run, "0912345678")
    assert {turn for _, turn in turns} == {0}
    assert "disabled" in found["routes"][2]["why"]
    assert "nobody takes the message now" in run("route", "explain", "0912345678")[1]


@pytest.mark.usefixtures("table")
def test_equals_share(run, tell):
    """Two channels of the same priority and cost have the same turn, as in dispatch."""
    run("route", "add", "simulator", "--cost", "100")
    assert "not started yet" in _explained(run, "0912345678")[0]["routes"][3]["why"]
    tell("simulator", state="degraded")
    _, turns = _explained(run, "0912345678")
    assert turns[2:] == [("cheap", 1), ("simulator", 1), ("dear", 2)]
    _, text, _ = run("route", "explain", "0912345678")
    assert "cheap or simulator, whichever is free first, takes the message now" in text
    assert "if it refuses: the other, then dear" in text


@pytest.mark.usefixtures("table")
def test_a_sender_is_told_with_its_owner(run):
    """Whose it is and whether it is approved, or that nobody has it."""
    run("account", "create", "shop", "shop@example.com")
    run("sender", "add", "shop", "brandname", "MYSHOP")
    assert "of account shop, and pending" in run("route", "explain", "0912345678", "--sender", "MYSHOP")[1]
    assert "sender not found" in run("route", "explain", "0912345678", "--sender", "OTHER")[1]
    code, _, err = run("route", "explain", "12")
    assert code == 1
    assert "write it as 0912345678" in err


@pytest.fixture
def receipts(run, admin_url):
    """Two that match nothing, one of them unreadable, and one that the simulator has yet to say."""
    run("channel", "add", "carrier", "smpp", "hosts=a.example:2775", "system_id=shop")
    sql = """INSERT INTO receipt (channel_id, reference, keys, number, attempt, part, parts, whole, status,
                 cause, raw, received_at, due)
             SELECT id, %s, %s, %s, 1, 1, 1, false, %s, %s, %s, %s, %s FROM channel WHERE name = %s"""
    late = NOW.replace(year=2099)
    raw = b"id:1f4a sub:001 stat:DELIVRD err:000 text:Ma 493027 cua 84912345678"
    with psycopg.connect(admin_url) as connection:
        for row in (
            ("1f4a", ["1f4a", "8010"], 84912345678, 0, "DELIVRD", raw, NOW, late, "carrier"),
            ("", [], None, None, "unreadable", b"\x00\xff id? +84 912 345 678", NOW, late, "carrier"),
            ("sim-1", ["sim-1"], None, 0, "simulated", b"", NOW, late, "simulator"),
        ):
            connection.execute(sql, row)


@pytest.mark.usefixtures("receipts")
def test_unmatched_receipts_are_listed_masked(run):
    """Neither full numbers nor the message's text stand in a list, unless asked for."""
    _, text, _ = run("receipt", "list")
    assert "1f4a" in text
    assert "84•••••678" in text
    assert "sim-1" not in text
    assert not [private for private in ("493027", "84912345678", "912 345 678") if private in text]
    _, rows, _ = run("receipt", "list", "--unparsed", "--json")
    assert [(row["reference"], row["cause"]) for row in rows] == [("", "unreadable")]
    assert "493027" in run("receipt", "list", "--full")[1]
    assert run("receipt", "list", "--channel", "simulator", "--json")[1] == []
    assert "2 receipts match no message, 1 of them" in run("channel", "show", "carrier")[1]


@pytest.mark.usefixtures("receipts")
def test_receipts_are_looked_at_again_by_hand(run, admin_url):
    """One or all become due; the simulator's own plans are left alone."""
    rows = run("receipt", "list", "--json")[1]
    assert run("receipt", "retry", str(rows[0]["id"]), "--json")[1] == {"retried": 1}
    assert run("receipt", "retry", "--all", "--json")[1] == {"retried": 2}
    with psycopg.connect(admin_url) as connection:
        waiting = connection.execute("SELECT reference FROM receipt WHERE due > now()").fetchall()
    assert waiting == [("sim-1",)]
    assert run("receipt", "retry")[0] == 1
    assert run("receipt", "retry", "999")[0] == 1
