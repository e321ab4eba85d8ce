"""What the tests of commands share: one that types them."""

import json

import pytest

from speedsms.cli import build


@pytest.fixture
def run(database_url, monkeypatch, tmp_path, capsys):
    """Runs one command line: (exit code, data of --json or text, stderr)."""
    monkeypatch.setenv("SPEEDSMS_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def run_(*words):
        with pytest.raises(SystemExit) as ended:
            build()(words, result_action="print_non_int_sys_exit")
        out, err = capsys.readouterr()
        return ended.value.code or 0, json.loads(out)["data"] if "--json" in words and out else out, err

    return run_
