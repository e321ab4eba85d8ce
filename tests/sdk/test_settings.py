"""Token and address: arguments, then the environment, then a profile; and what is refused."""

import pytest

from speedsms import ConfigurationError, SpeedSMS
from speedsms.settings import load, profiles_path

OURS = "http://127.0.0.1:8100"


@pytest.fixture
def profiles(tmp_path):
    path = profiles_path()
    path.parent.mkdir(parents=True)
    path.write_text(
        '[default]\ntoken = "from-default"\nbase_url = "https://default.example"\n'
        '[shop]\ntoken = "from-shop"\nbase_url = "https://shop.example"\n'
    )
    path.chmod(0o600)
    assert path.is_relative_to(tmp_path)
    return path


def test_arguments_before_environment_before_profile(profiles, monkeypatch):
    """Each value on its own; a profile that is asked for goes before the environment."""
    assert profiles.exists()
    assert load() == load("from-default", "https://default.example")
    monkeypatch.setenv("SPEEDSMS_PROFILE", "shop")
    assert load() == load("from-shop", "https://shop.example")
    monkeypatch.setenv("SPEEDSMS_TOKEN", "from-environment")
    assert load() == load("from-environment", "https://shop.example")
    monkeypatch.setenv("SPEEDSMS_BASE_URL", OURS)
    assert load() == load("from-environment", OURS)
    assert load("given") == load("given", OURS)
    assert load(profile="shop") == load("from-shop", "https://shop.example")


def test_what_is_missing_is_named(monkeypatch):
    """The error says exactly what to set, for our own gateway and the vendor's service."""
    with pytest.raises(ConfigurationError, match="SPEEDSMS_TOKEN"):
        SpeedSMS()
    monkeypatch.setenv("SPEEDSMS_TOKEN", "secret-token")
    with pytest.raises(
        ConfigurationError, match=r"SPEEDSMS_BASE_URL.*127\.0\.0\.1:8100.*api\.speedsms\.vn"
    ) as caught:
        SpeedSMS()
    assert "secret-token" not in str(caught.value)


def test_a_profile_others_can_read_is_refused(profiles):
    """As ssh does with keys; without a profile's help nothing is read, so nothing is refused."""
    profiles.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load()
    assert load("given", OURS).token == "given"


@pytest.mark.parametrize(
    ("text", "name"), [("[default", "default"), ("[other]\n", "shop"), ("shop = 1", "shop")]
)
def test_a_broken_profile_is_named(profiles, text, name):
    """Never a traceback, never the file's content."""
    profiles.write_text(text)
    with pytest.raises(ConfigurationError):
        load(profile=name)


@pytest.mark.parametrize("token", ["a b", "a:b", "a\n", "mã", "a\x00"])
def test_a_token_that_basic_cannot_carry(token):
    """A colon would cut it (protocol §2); the error does not show it."""
    with pytest.raises(ConfigurationError) as caught:
        load(token, OURS)
    assert token not in str(caught.value).replace("colon or a letter", "")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "http://127.0.0.1:8100",
        "http://[::1]:8100",
        "http://10.1.2.3",
        "http://192.168.1.1/sms",
        "http://gateway:8100",
        "http://sms.internal",
        "https://api.speedsms.vn",
        "https://1.2.3.4",
    ],
)
def test_addresses_that_are_taken(url):
    """Https anywhere; http on this machine and in private networks."""
    assert load("token", url).base_url == url
    assert load("token", url + "/").prefix.endswith("/index.php/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.speedsms.vn",
        "http://8.8.8.8",
        "http://134744072",
        "http://[2001:4860:4860::8888]",
        "http://localhost.example.com",
        "ftp://localhost",
        "localhost:8100",
        "https://",
        "https://name:password@host",
        "https://host?a=b",
        "https://host:port",
        "https://[::1",
    ],
)
def test_addresses_that_are_refused(url):
    """The token would travel in clear, or nobody knows where to."""
    with pytest.raises(ConfigurationError) as caught:
        load("token", url)
    assert "password" not in str(caught.value)


def test_http_to_the_world_on_ones_own_word():
    """`allow_http=True` is for tunnels that this side cannot see."""
    assert load("token", "http://api.example.com", allow_http=True).origin == "http://api.example.com"


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("https://h", "/index.php/"),
        ("https://h/index.php", "/index.php/"),
        ("https://h/index.php/", "/index.php/"),
        ("https://h/sms", "/sms/index.php/"),
    ],
)
def test_where_the_endpoints_are(url, prefix):
    """Below /index.php, which the address may already end in."""
    assert load("token", url).prefix == prefix


def test_a_missing_ca_file_is_named(tmp_path):
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match="ca_file"):
        SpeedSMS("token", "https://127.0.0.1", ca_file=tmp_path / "none.pem")
