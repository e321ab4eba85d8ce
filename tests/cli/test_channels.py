"""Channels and routes as operators keep them: in the settings' file, and by command."""

import asyncio
import json
import re
from pathlib import Path

import psycopg
import pytest

from speedsms.gateway.app import declared
from speedsms.gateway.config import load

DOCS = Path(__file__).parent.parent.parent / "docs"
FILE = """
[channels.viettel]
kind = "smpp"
hosts = ["smpp.example.net:2775"]
system_id = "shop"
password = "env:VIETTEL_PASSWORD"
window = 100
rate = 50
routes = [
    { priority = 10, cost_vnd = 180, carriers = ["viettel"] },
    { priority = 20, sms_types = [2, 3] },
]

[channels.spare]
kind = "sim"
rate = 5
"""


@pytest.fixture
def write(tmp_path):
    """Writes the settings' file."""
    return (tmp_path / "speedsms.toml").write_text


def _routes(run, channel):
    return [row for row in run("route", "list", "--json")[1] if row["channel"] == channel]


def test_the_file_makes_channels_and_routes(run, write):
    """Applied twice it changes nothing more, and what it says stands in the tables."""
    write(FILE)
    code, done, _ = run("channel", "apply", "--json")
    assert (code, len(done["said"])) == (0, 3)
    code, again, _ = run("channel", "apply", "--json")
    assert (code, again["said"]) == (0, [])
    rows = {row["name"]: row for row in run("channel", "list", "--json")[1]}
    assert rows["viettel"]["settings"]["password"] == "env:VIETTEL_PASSWORD"
    assert (rows["viettel"]["declared"], rows["simulator"]["declared"]) == (True, False)
    settings = {row["setting"]: row for row in run("config", "show", "--json")[1]}
    assert settings["channels.viettel"]["source"].endswith("speedsms.toml")
    assert [(row["priority"], row["cost_vnd"], row["carriers"]) for row in _routes(run, "viettel")] == [
        (10, 180, ["viettel"]),
        (20, 0, []),
    ]


def test_the_file_replaces_what_it_declared_and_nothing_else(run, write):
    """A changed route goes, one made by command and one that stayed keep their ids; other channels stay."""
    write(FILE)
    run("channel", "apply")
    _, by_hand, _ = run("route", "add", "viettel", "--priority", "5", "--json")
    before = {row["priority"]: row["id"] for row in _routes(run, "viettel")}
    run("channel", "set", "simulator", "rate=7")
    write(FILE.replace("priority = 20", "priority = 30").replace("window = 100\n", ""))
    _, done, _ = run("channel", "apply", "--json")
    assert done["said"] == [
        "channel viettel is changed: window",
        "routes to viettel: 1 added, 1 removed",
    ]
    after = {row["priority"]: row["id"] for row in _routes(run, "viettel")}
    assert after.keys() == {5, 10, 30}
    assert (after[5], after[10]) == (by_hand["id"], before[10])
    rows = {row["name"]: row["settings"] for row in run("channel", "list", "--json")[1]}
    assert rows["simulator"] == {"rate": 7}
    assert "window" not in rows["viettel"]


def test_a_channel_that_left_the_file_is_told_and_kept(run, write):
    """Nothing is deleted behind the operator's back; once it is disabled there is nothing to tell."""
    write(FILE)
    run("channel", "apply")
    write(FILE.partition("[channels.spare]")[0])
    _, done, _ = run("channel", "apply", "--json")
    assert len(done["said"]) == 1
    assert "speedsms channel disable spare" in done["said"][0]
    run("channel", "disable", "spare")
    assert run("channel", "apply", "--json")[1]["said"] == []
    assert "spare" in {row["name"] for row in run("channel", "list", "--json")[1]}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("window = 100", "window = 0", "channels.viettel.window"),
        ("window = 100", "windows = 100", "channels.viettel.windows"),
        ('kind = "sim"', "", "channels.spare has no kind"),
        ('kind = "sim"', 'kind = "smp"', "channels.spare.kind"),
        ('["viettel"]', '["vietel"]', "channels.viettel.routes[0]: unknown carrier vietel"),
        ("sms_types = [2, 3]", "sms_types = [9]", "channels.viettel.routes[1].sms_types[0]"),
        (
            "cost_vnd = 180",
            "price = 180",
            "channels.viettel.routes[0]: Object contains unknown field `price`",
        ),
        ('hosts = ["smpp.example.net:2775"]', 'hosts = ["smpp.example.net"]', "channels.viettel.hosts[0]"),
    ],
)
def test_a_bad_key_is_named_with_its_path(run, write, old, new, said):
    """`config check`, `channel apply` and `serve` refuse it before anything starts (CH-11)."""
    write(FILE.replace(old, new))
    for words in (["config", "check"], ["channel", "apply"], ["serve"]):
        code, out, err = run(*words)
        assert (code, out) == (3, "")
        assert said in err
        assert err.count("\n") == 1


def test_a_name_keeps_its_kind(run, write):
    """The file cannot turn a channel made by command into something else."""
    run("channel", "add", "viettel", "sim")
    write(FILE)
    code, _, err = run("channel", "apply")
    assert code == 1
    assert "channels.viettel.kind is smpp, but there is a channel viettel of kind sim" in err


def test_a_literal_password_is_warned_of_and_never_shown(run, write):
    """It works, but it can be read by many; lists and the database's operators see where others stand."""
    write(FILE.replace("env:VIETTEL_PASSWORD", "geheim"))
    _, done, _ = run("channel", "apply", "--json")
    assert [said for said in done["said"] if "env:NAME or file:PATH" in said]
    words = ["hosts=a.example:2775,b.example:2775", "system_id=123", "password=geheim"]
    _, _, err = run("channel", "add", "other", "smpp", *words)
    assert "env:NAME or file:PATH" in err
    shown = [run("channel", "list", "--json")[1], run("channel", "show", "other", "--json")[1]]
    assert "geheim" not in json.dumps(shown) + run("channel", "show", "viettel")[1]
    assert shown[1]["settings"]["hosts"] == ["a.example:2775", "b.example:2775"]
    assert shown[1]["settings"]["system_id"] == "123"


def test_a_command_refuses_what_the_kind_would(run):
    """What the worker would block is refused at the command, and nothing is changed."""
    code, _, err = run("channel", "add", "viettel", "smpp", "hosts=a.example", "system_id=shop")
    assert code == 1
    assert "hosts[0]" in err
    assert run("channel", "add", "viettel", "smtp")[0] == 1
    run("channel", "add", "viettel", "smpp", "hosts=a.example:2775", "system_id=shop", "window=50")
    code, _, err = run("channel", "set", "viettel", "window=none")
    assert code == 1
    assert "window" in err
    assert run("channel", "set", "viettel", "window=")[0] == 0
    assert "window" not in run("channel", "show", "viettel", "--json")[1]["settings"]


def test_a_channel_shows_its_limits(run, admin_url):
    """The ceiling of a window stands beside the rate (channels §3.6), with health, counts and routes."""
    words = ["hosts=a.example:2775", "system_id=shop", "rate=500", "window=10"]
    run("channel", "add", "viettel", "smpp", *words)
    assert "no route leads here" in run("channel", "show", "viettel")[1]
    run("route", "add", "viettel", "--cost", "180", "--carrier", "viettel")
    health = {"state": "degraded", "cause": "1 of 2 binds", "since": "2026-12-07T03:00:00+00:00"}
    with psycopg.connect(admin_url) as connection:
        connection.execute(
            "UPDATE channel SET health = %s WHERE name = 'viettel'",
            [json.dumps(health | {"counts": {"accepted": 12345}, "id_form": "hex_dec"})],
        )
    _, text, err = run("channel", "show", "viettel")
    for said in ("degraded since", "1 of 2 binds", "accepted 12,345", "hex_dec", "180 ₫", "at most 10 parts"):
        assert said in text
    assert "at most 169 parts/s" in text
    assert "holds it below its rate" in text
    assert "no worker runs" in err


def test_a_paused_channel_says_until_when(run, admin_url):
    """`channel show` and `doctor` name the pause, and a degraded one its cause; neither is bad."""
    times = {"since": "2026-12-07T03:00:00+00:00", "until": "2026-12-07T03:00:08+00:00"}
    for state, cause, more in (
        ("paused", "throttled", times),
        ("degraded", "answers take more than 5 s", {}),
    ):
        with psycopg.connect(admin_url) as connection:
            health = json.dumps({"state": state, "cause": cause} | more)
            connection.execute("UPDATE channel SET health = %s", [health])
        shown = run("channel", "show", "simulator")[1]
        assert all(said in shown for said in (state, cause, *more.values()))
        found = run("doctor", "--json")[1]
        (channel,) = (finding for finding in found if finding["what"] == "channel simulator")
        assert (channel["grade"], channel["said"]) == ("odd", f"{state} ({cause})")


def test_a_change_beside_the_file_is_warned_of(run, write):
    """What the next start would undo is said at once."""
    write(FILE)
    run("channel", "apply")
    assert "wins at the next start" in run("channel", "set", "spare", "rate=9")[2]
    (first, _) = _routes(run, "viettel")
    assert "brings it back" in run("route", "remove", str(first["id"]))[2]


@pytest.mark.anyio
async def test_two_gateways_may_start_at_once(db, tmp_path):
    """Whoever comes second finds everything there: one channel of each name, no route twice."""
    (tmp_path / "speedsms.toml").write_text(FILE)
    channels = load(tmp_path / "speedsms.toml", {}).channels
    said = await asyncio.gather(*(declared.apply(db, channels) for _ in range(3)))
    assert sorted(map(len, said)) == [0, 0, 3]
    assert await db.rows("SELECT count(*) FROM route") == [(2,)]


@pytest.mark.parametrize("page", ["how-to", "vi"])
def test_blocks_of_the_documentation_are_accepted(page, tmp_path):
    """What a reader copies from the page passes the check as it stands."""
    text = (DOCS / page / "connect-a-carrier.md").read_text("utf8")
    blocks = re.findall(r"```toml\n(.+?)```", text, re.DOTALL)
    assert blocks
    (tmp_path / "speedsms.toml").write_text("\n".join(blocks))
    declared.check(load(tmp_path / "speedsms.toml", {}).channels)
