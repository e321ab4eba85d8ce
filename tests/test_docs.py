"""The reference pages say what the code says, and the catalogue knows every refusal."""

import importlib.util
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from speedsms.catalogue import ENTRIES
from speedsms.cli import COMMANDS, GROUPS
from speedsms.gateway.config import catalogue
from speedsms.gateway.store.admin import AccountSettings
from speedsms.wire import Code, Reason

ROOT = Path(__file__).parent.parent
SPECIFIED = ROOT / "spec/protocol.md"
PROSE = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _tool(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "smpp.md", "cli.md", "codes.md", "python.md"])
def test_generated_pages_are_fresh(name):
    """`make docs` was run after the last change of a setting, a command or a refusal."""
    assert (ROOT / "docs/reference" / name).read_text("utf8") == _tool("docs").PAGES[name]()


def test_every_setting_is_documented():
    """Name, variable and purpose of each stand in the reference."""
    page = (ROOT / "docs/reference/settings.md").read_text("utf8")
    assert not [s.path for s in catalogue() if s.variable not in page or s.description not in page]
    assert not [name for name in AccountSettings.__struct_fields__ if f"| `{name}` |" not in page]


def test_every_command_is_documented():
    """Each command and each group has its line."""
    page = (ROOT / "docs/reference/cli.md").read_text("utf8")
    assert not [command.path for command in COMMANDS if f"`{command.path}`" not in page]
    assert {command.path.split()[0] for command in COMMANDS if " " in command.path} == set(GROUPS)


def _undocumented(value):
    """Of a class or a function: itself, and the public methods and properties, without a docstring."""
    name, doc = value.__name__, value.__doc__
    if not doc or doc.startswith(f"{name}("):  # what a dataclass makes up
        yield name
    for member, inside in vars(value).items() if inspect.isclass(value) else ():
        told = inspect.isroutine(inside) or isinstance(inside, property)
        if told and not member.startswith("_") and not inside.__doc__:
            yield f"{name}.{member}"


def test_every_public_name_of_the_sdk_is_documented():
    """Each has a docstring and its section in the reference; so has each method (experience U6)."""
    docs = _tool("docs")
    page = (ROOT / "docs/reference/python.md").read_text("utf8")
    missing = set()
    for path in ("speedsms", *docs.MODULES):
        module = import_module(path)
        assert module.__doc__, path
        start = "\n## Clients\n" if path == "speedsms" else f"\n## {path}\n"
        section = page.partition(start)[2].partition("\n## speedsms.")[0]
        for name in docs.public(module):
            value = getattr(module, name)
            heading = f"## {value.__name__}" if inspect.ismodule(value) else f"### {name}"
            assert f"\n{heading}\n" in (page if inspect.ismodule(value) else section), f"{path}.{name}"
            if inspect.isclass(value) or inspect.isroutine(value):
                missing |= {*_undocumented(value)}
    assert not missing


def test_the_reference_has_every_module():
    """Whatever is public beside the package itself is a module of the page."""
    glue = {
        f"speedsms.contrib.{path.stem}"
        for path in (ROOT / "src/speedsms/contrib").iterdir()
        if not path.name.startswith("_")
    }
    assert {*_tool("docs").MODULES} == {"speedsms.webhook", "speedsms.testing", "speedsms.compat", *glue}


def test_every_refusal_is_explained():
    """Each reason slug has its entry in both languages, under the codes of protocol §6.3."""
    assert {place for place in ENTRIES if isinstance(place, Reason)} == set(Reason)
    assert {code for entry in ENTRIES.values() for code in entry.codes} == set(Code)
    for entry in ENTRIES.values():
        for words in (entry.en, entry.vi):
            assert words.title
            assert words.cause.endswith(".")
            assert words.fix.endswith(".")
        assert entry.en != entry.vi


def test_the_catalogue_agrees_with_the_protocol():
    """The table of §6.3 is the catalogue's: code by code, slug by slug."""
    section = SPECIFIED.read_text("utf8").partition("### 6.3")[2].partition("\n## 7")[0]
    rows = re.findall(r"^\| ([0-9, ]+) \| (.+) \|$", section, re.MULTILINE)
    found = {
        (code, slug)
        for codes, slugs in rows
        for code in codes.split(", ")
        for slug in re.findall(r"`(\w+)`", slugs)
    }
    ours = {(str(code), str(place)) for place, entry in ENTRIES.items() for code in entry.codes}
    shared = {pair for pair in found if pair[0] in {"007", "008", "009"}}  # one row names three codes
    assert ours - shared == found - shared
    assert ours <= found


def test_framework_answers_are_explained():
    """Each HTTP status of protocol §1.4 that a client meets has its entry."""
    assert {place for place in ENTRIES if not isinstance(place, Reason)} == {
        401,
        404,
        405,
        409,
        413,
        415,
        422,
        429,
        500,
    }


def test_every_switch_of_the_protocol_can_be_set():
    """What §17 calls a switch of the installation is a setting."""
    paths = {setting.path for setting in catalogue()}
    assert {
        "compat.get_send",
        "compat.public_http",
        "sms.max_parts",
        "sms.gsm_only",
        "sender.allow_space",
    } <= paths


def test_the_lifecycle_is_drawn_from_the_table():
    """`make docs` was run after the last change of rules/state.py."""
    lifecycle = _tool("lifecycle")
    page = lifecycle.PAGE.read_text("utf8")
    assert lifecycle.drawn(page) == page


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Every relative link of a page names a file that exists, and an anchor of it if it names one."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text("utf8")):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked.read_text("utf8")), f"{target}#{anchor}"


def _anchors(text):
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    spelt = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
    return spelt | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_commands_and_settings_that_exist(page):
    """A command or variable shown to a reader is one of this release."""
    text = page.read_text("utf8")
    sdk = [ROOT / "src/speedsms/settings.py", *ROOT.glob("src/speedsms/contrib/**/*.py")]
    client = {name for file in sdk for name in re.findall(r"SPEEDSMS_[A-Z_]+[A-Z]", file.read_text("utf8"))}
    known = {"SPEEDSMS_CONFIG", "SPEEDSMS_TEST_DATABASE_URL", *client, *(s.variable for s in catalogue())}
    assert set(re.findall(r"SPEEDSMS_[A-Z_]+[A-Z]", text)) <= known
    paths = {command.path for command in COMMANDS}
    for words in re.findall(r"^(?:[A-Z_]+=\S+ )*speedsms ([a-z]+(?: [a-z]+)?)", text, re.MULTILINE):
        assert words in paths or words.split()[0] in paths, words
