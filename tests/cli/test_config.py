"""Settings: every way in, and a plain sentence for everything that is wrong (invariants D15)."""

from pathlib import Path

import pytest

from speedsms.gateway.config import Settings, SettingsFailed, catalogue, load


@pytest.fixture(autouse=True)
def _empty_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_defaults_need_nothing():
    """Without file and environment the gateway starts with its own database on a loopback address."""
    settings = load(None, {}).settings
    assert (settings.database.url, settings.http.host, settings.http.port) == ("", "127.0.0.1", 8100)
    assert settings == Settings()


def test_environment_over_dotenv_over_file(tmp_path):
    """The nearest place wins, and every value says where it came from."""
    file = tmp_path / "a.toml"
    file.write_text("[http]\nport = 1\nprocesses = 2\nhost = '10.0.0.1'\n")
    (tmp_path / ".env").write_text(
        "POSTGRES_PASSWORD=x\nexport SPEEDSMS_HTTP__PORT='2'\nSPEEDSMS_HTTP_PROCESSES=3\n"
    )
    loaded = load(file, {"SPEEDSMS_HTTP_PORT": "4"})
    assert (loaded.settings.http.port, loaded.settings.http.processes, loaded.settings.http.host) == (
        4,
        3,
        "10.0.0.1",
    )
    assert loaded.sources == {
        "http.port": "SPEEDSMS_HTTP_PORT",
        "http.processes": "SPEEDSMS_HTTP_PROCESSES",
        "http.host": str(file),
    }


def test_the_file_is_found_where_it_is_named(tmp_path):
    """SPEEDSMS_CONFIG names it; else it lies in the working directory."""
    (tmp_path / "other.toml").write_text("[http]\nport = 7\n")
    (tmp_path / "speedsms.toml").write_text("[http]\nport = 8\n")
    assert load(None, {"SPEEDSMS_CONFIG": "other.toml"}).settings.http.port == 7
    assert load(None, {}).settings.http.port == 8


def test_secrets_come_from_files(tmp_path):
    """NAME_FILE holds what must not stand in an environment, and `config show` stars passwords out."""
    secret = tmp_path / "secret"
    secret.write_text("postgresql://a:hidden@h/d\n")
    loaded = load(None, {"SPEEDSMS_DATABASE_URL_FILE": str(secret)})
    assert loaded.settings.database.url == "postgresql://a:hidden@h/d"
    url = next(setting for setting in catalogue() if setting.path == "database.url")
    assert url.value(loaded.settings) == "postgresql://a:****@h/d"


def test_lists_tables_and_switches_in_the_environment():
    """What a file says in TOML, the environment says in one line; an empty variable says nothing."""
    given = {
        "SPEEDSMS_HTTP_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        "SPEEDSMS_SMS_MAX_PARTS": "2=4,3=1",
        "SPEEDSMS_COMPAT__GET_SEND": "false",
        "SPEEDSMS_EMBEDDED_RUN_AS": "",
    }
    settings = load(None, given).settings
    assert settings.http.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.sms.max_parts == {2: 4, 3: 1}
    assert settings.compat.get_send is False
    assert settings.embedded.run_as is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[http]\nprot = 1", "http.prot: did you mean http.port"),
        ("[htp]\nport = 1", "htp: did you mean http"),
        ("[http]\nport = 'x'", "http.port"),
        ("[http]\nport = 70000", "http.port"),
        ("http = 3", "http"),
        ("[http", "not TOML"),
        ("\udcff", "not TOML"),
        ("[sms.max_parts]\n9 = 1", "sms_type is 1 to 8"),
        ("[sms.max_parts]\n2 = 11", "sms.max_parts"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ("[http]\ntrusted_proxies = ['proxy']", "http"),
        ("[http]\nhost = '8.8.8.8'", "public"),
        ("[database]\nadmin_url = 'postgresql://x'", "database.admin_url"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, said):
    """The sentence names the key or the place, and what to do."""
    file = tmp_path / "a.toml"
    file.write_text(text, "utf8", "surrogateescape")
    with pytest.raises(SettingsFailed) as refused:
        load(file, {})
    assert said in str(refused.value)
    assert "\n" not in refused.value.reason
    assert refused.value.fix


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SPEEDSMS_HTP_PORT": "1"}, "did you mean SPEEDSMS_HTTP_PORT"),
        ({"SPEEDSMS_HTTP_PORT": "x"}, "SPEEDSMS_HTTP_PORT"),
        ({"SPEEDSMS_HTTP_PORT": "1", "SPEEDSMS_HTTP__PORT": "2"}, "both set http.port"),
        ({"SPEEDSMS_DATABASE_URL_FILE": "/nowhere"}, "cannot be read"),
        ({"SPEEDSMS_CONFIG": "/nowhere.toml"}, "is not a file"),
    ],
)
def test_a_wrong_environment_is_refused_in_one_line(environ, said):
    """A misspelt variable is not ignored."""
    with pytest.raises(SettingsFailed, match=said):
        load(None, environ)


def test_a_public_address_needs_a_decision():
    """Plain HTTP on a public address is served only behind a proxy or by a switch (protocol D2)."""
    for host in ("127.0.0.1", "::1", "10.0.0.1", "192.168.1.2", "fd00::1", "localhost"):
        assert load(None, {"SPEEDSMS_HTTP_HOST": host}).settings.http.host == host
    for host in ("8.8.8.8", "0.0.0.0", "::", "::ffff:8.8.8.8", "100.64.0.1", "sms.example.com"):
        with pytest.raises(SettingsFailed, match="may be public"):
            load(None, {"SPEEDSMS_HTTP_HOST": host})
    public = {"SPEEDSMS_HTTP_HOST": "8.8.8.8"}
    assert load(None, public | {"SPEEDSMS_COMPAT_PUBLIC_HTTP": "true"}).settings.compat.public_http
    assert load(None, public | {"SPEEDSMS_HTTP_TRUSTED_PROXIES": "10.0.0.1"}).settings.http.host == "8.8.8.8"


def test_every_setting_says_what_it_is_for():
    """A setting without a sentence, or two with one variable, cannot be added."""
    settings = list(catalogue())
    assert all(setting.description.endswith(".") for setting in settings)
    assert len({setting.variable for setting in settings}) == len(settings) > 30
    assert isinstance(next(s for s in settings if s.path == "data_dir").value(Settings()), Path)
