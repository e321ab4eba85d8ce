"""What `pip install speedsms` brings: one dependency, few names, no gateway."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def _loaded(statement):
    script = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_only_base_dependency_is_the_http_client():
    """Everything else is an extra (stack.md §1)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    assert [name.partition(">")[0] for name in project["dependencies"]] == ["httpx2"]


def test_importing_the_package_loads_no_gateway():
    """Neither `speedsms` nor its commands pull in the server or what it needs (PR-4)."""
    for statement in ("import speedsms", "import speedsms.cli", "import speedsms.catalogue"):
        loaded = _loaded(statement)
        assert not [name for name in loaded if name.startswith("speedsms.gateway")]
        assert not loaded & {
            "psycopg",
            "aiohttp",
            "uvicorn",
            "structlog",
            "msgspec",
            "cyclopts",
            "rich",
            "asyncio",
        }


def test_the_tree_of_commands_loads_no_gateway():
    """`speedsms --help` needs the [cli] extra only."""
    pytest.importorskip("cyclopts", reason="the extra [cli] is not installed")
    loaded = _loaded("from speedsms.cli import build; build()")
    assert not [name for name in loaded if name.startswith("speedsms.gateway")]


def test_importing_the_package_costs_next_to_nothing():
    """Counted in modules, which no busy machine changes; milliseconds follow (at most 150)."""
    bare, package = _loaded("pass"), _loaded("import speedsms")
    ours = {name for name in package if name.startswith("speedsms")}
    assert ours == {"speedsms"}
    assert len(package - bare) <= 40
    client = _loaded("from speedsms import SpeedSMS") - bare
    assert len(client) <= 300
    assert not client & {"rich", "cyclopts", "speedsms.cli", "speedsms.testing", "speedsms.gateway"}


PUBLIC = """
    Account AccountBlocked AsyncSpeedSMS Band Code ConfigurationError EntryState Exchange
    InsufficientBalance InvalidNumber InvalidRequest IpLocked JournalError KeyConflict NotAllowed NotSendable
    NotYetFinal Number NumberStatus Outcome OutcomeUnknown PinCheck PinSent Preview Progress RateLimited
    Reason Rejected Segments SenderNotFound Sent SmsType SpeedSMS SpeedSMSError TextMode TooLong Totals
    Unauthorized Unavailable compat parse_number preview segments testing webhook
"""


def test_public_names():
    """A name more or less is a decision."""
    names = "sorted(n for n in dir(speedsms) if not n.startswith('_'))"
    script = f"import speedsms; print(*{names}, speedsms.__version__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]["version"]
    assert done.stdout.split() == [*PUBLIC.split(), version]


def test_the_package_says_that_it_is_typed():
    """Type checkers read our annotations only beside this file."""
    assert (ROOT / "src/speedsms/py.typed").exists()


@pytest.mark.parametrize(
    ("name", "extra", "group"),
    [("gateway", "gateway", None), ("dev", "gateway", "dev"), ("sdk", None, "test")],
)
def test_locked_versions_are_those_of_the_project(name, extra, group):
    """`make lock` was run after the last change of the dependencies; all have hashes (stack.md §8)."""
    text = (ROOT / f"requirements/{name}.txt").read_text("utf8")
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))
    assert not [block for block in re.split(r"\n(?=\w)", text) if "--hash=sha256:" not in block]
    for wanted in map(Requirement, _wanted(extra, group)):
        assert wanted.name in locked, wanted
        assert wanted.specifier.contains(locked[wanted.name], prereleases=True), wanted


def _grouped(groups, name):
    for line in groups.get(name, ()):
        if isinstance(line, dict):
            yield from _grouped(groups, line["include-group"])
        else:
            yield line


def _wanted(extra, group):
    """What pyproject.toml asks for, extras of our own followed."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))
    yield from told["project"]["dependencies"]
    yield from _grouped(told["dependency-groups"], group)
    for line in told["project"]["optional-dependencies"].get(extra, ()):
        if line.startswith("speedsms["):
            yield from _wanted(line[len("speedsms[") : -1], None)
        else:
            yield line
