"""What the tests of commands share: one that types them."""

import json

import pytest

from speedsms.cli import build
from speedsms.testing import fake_gateway


@pytest.fixture
def typed(monkeypatch, tmp_path, capsys):
    """Runs one command line: (exit code, data of --json or text, stderr)."""
    monkeypatch.chdir(tmp_path)

    def typed_(*words):
        with pytest.raises(SystemExit) as ended:
            build()(words, result_action="print_non_int_sys_exit")
        out, err = capsys.readouterr()
        return ended.value.code or 0, json.loads(out)["data"] if "--json" in words and out else out, err

    return typed_


@pytest.fixture
def run(database_url, monkeypatch, typed):
    """The same for an operator: with a database."""
    monkeypatch.setenv("SPEEDSMS_DATABASE_URL", database_url)
    return typed


@pytest.fixture
def gateway(monkeypatch, tmp_path):
    """A fake gateway that every client of this process finds, and no settings of the machine's owner."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "SPEEDSMS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with fake_gateway() as gateway:
        yield gateway
