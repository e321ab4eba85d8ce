"""Settings of the channel kind `smpp`: the path of the bad key and a fix (CH-11), and what they mean."""

import re

import pytest

from speedsms.gateway.channels import kinds
from speedsms.gateway.channels.base import Reason, Surroundings
from speedsms.gateway.channels.smpp.client import Smpp
from speedsms.gateway.channels.smpp.settings import Settings, host_and_port, settings_of, statuses

LEAST = {"hosts": ["smpp.example.net:2775"], "system_id": "us", "password": "secret"}


def around(secret):
    return Surroundings(now=None, random=lambda: 0.5, owner=lambda: 1, asked=lambda _: None, secret=secret)


def test_defaults():
    """§3.2, as the table has them."""
    settings = settings_of(LEAST)
    assert (settings.window, settings.rate, settings.binds, settings.bind) == (10, 10, 1, "transceiver")
    assert (settings.enquire_link_s, settings.enquire_timeout_s, settings.submit_timeout_s) == (30, 10, 60)
    assert (settings.connect_s, settings.bind_s, settings.unbind_s, settings.reconnect_s) == (
        10,
        10,
        5,
        (1, 60),
    )
    assert (settings.concat, settings.alphabet, settings.validity, settings.receipts) == (
        "udh8",
        "gsm7",
        "relative",
        "final",
    )


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        ({"hosts": []}, "hosts: "),
        ({"hosts": ["smpp.example.net"]}, "hosts[0]: "),
        ({"hosts": ["a:1", "b:99999"]}, "hosts[1]: "),
        ({"window": 0}, "window: "),
        ({"window": "ten"}, "window: "),
        ({"rate": -1}, "rate: "),
        ({"binds": 21}, "binds: "),
        ({"system_id": "sixteen octets ."}, "system_id: "),
        ({"system_id": "tên"}, "system_id: "),
        ({"password": "nine here"}, "password: "),
        ({"password": "x" * 65, "long_password": True}, "password: "),
        ({"bind": "receiver"}, "bind: "),
        ({"interface_version": 3}, "interface_version: "),
        ({"concat": "udh"}, "concat: "),
        ({"source_ton_npi": [5]}, "source_ton_npi: "),
        ({"source_ton_npi": [5, 256]}, "source_ton_npi[1]: "),
        ({"tlv": [{"tag": 0x1400, "type": "int8", "value": 256}]}, "tlv[0].value: "),
        ({"tlv": [{"tag": 0x1400, "type": "hex", "value": "xy"}]}, "tlv[0].value: "),
        ({"tlv": [{"tag": 0, "value": "x"}]}, "tlv[0].tag: "),
        ({"status_map": {"RTHROTTLED": "throttled"}}, "status_map.RTHROTTLED: "),
        ({"status_map": {"0x401": "later"}}, "status_map[...]: "),
        ({"err_map": {"1f": 128}}, "err_map.1f: "),
        ({"priority_flag": {"urgent": 1}}, "priority_flag.urgent: "),
        ({"receipt_tz": "Saigon"}, "receipt_tz: "),
        ({"pin_sha256": "abc"}, "pin_sha256: "),
        ({"widow": 10}, "widow: unknown setting"),
    ],
)
def test_the_bad_key_is_named(bad, path):
    """Whoever reads the refusal knows where to look."""
    with pytest.raises(ValueError, match=re.escape(path)) as refused:
        kinds.check("smpp", LEAST | bad)
    assert str(refused.value).startswith(path)


@pytest.mark.parametrize("key", ["hosts", "system_id"])
def test_a_missing_key_is_named(key):
    """The two that every contract has."""
    with pytest.raises(ValueError, match=f"^{key}: is missing$"):
        settings_of({name: value for name, value in LEAST.items() if name != key})


def test_files_of_tls_are_read_when_the_channel_is_built(tmp_path):
    """A file that is not there blocks the channel, with the key's name."""
    for key in ("ca_file", "client_cert"):
        with pytest.raises(ValueError, match=f"^{key}: "):
            Smpp("x", LEAST | {"tls": True, key: str(tmp_path / "none.pem")}, around(str))


def test_passwords_come_from_elsewhere_and_stay_hidden():
    """`env:NAME` is looked up when the channel is built, checked like any other, and never shown."""
    asked = []
    raw = LEAST | {"password": "env:CARRIER"}
    assert Smpp("x", raw, around(lambda name: asked.append(name) or "hush")).kind == "smpp"
    assert asked == ["env:CARRIER"]
    with pytest.raises(ValueError, match=r"^password: at most 8"):
        Smpp("x", raw, around(lambda _: "nine here"))
    assert "secret" not in repr(settings_of(LEAST))


def test_traits_follow_the_settings():
    """§3.6: unrecorded is the window unless it is set, for each of the links."""
    traits = Smpp("x", LEAST | {"window": 50, "binds": 4}, around(str)).traits
    assert (traits.unrecorded, traits.links, traits.receipts) == (200, 4, "handset")
    assert Smpp("x", LEAST | {"unrecorded": 500}, around(str)).traits.unrecorded == 500
    assert Smpp("x", LEAST | {"receipts": "none"}, around(str)).traits.receipts == "none"


def test_codes_of_the_carrier():
    """Keys of status_map in hexadecimal or decimal."""
    settings = settings_of(LEAST | {"status_map": {"0x45B": "no_balance", "1116": "opted_out"}})
    assert statuses(settings) == {0x45B: Reason.NO_BALANCE, 1116: Reason.OPTED_OUT}


def test_hosts_with_ipv6():
    """Addresses in brackets."""
    assert host_and_port("[2001:db8::1]:2775") == ("2001:db8::1", 2775)
    assert settings_of(LEAST | {"hosts": ["[2001:db8::1]:2775"]}).hosts


def test_every_setting_says_what_it_is_for():
    """The settings page is made from these."""
    undescribed = [
        name
        for name, hint in Settings.__annotations__.items()
        if not any(getattr(meta, "description", None) for meta in getattr(hint, "__metadata__", ()))
    ]
    assert undescribed == []
