"""House style that no linter knows (house.md): lengths, words, purity, docstrings of tests."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted(path for folder in ("bench", "tools") for path in (ROOT / folder).rglob("*.py"))
PURE = [
    *sorted((ROOT / "src/speedsms/gateway/rules").glob("*.py")),
    *sorted((ROOT / "src/speedsms/contract").glob("*.py")),
    *(ROOT / f"src/speedsms/{name}.py" for name in ("text", "numbers", "wire")),
]

FILE_LINES, FUNCTION_LINES = 600, 70
BANNED_FILES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base"}
BANNED_NAMES = re.compile(r"(?:^|_)(?:job|jobs|manager|handle|campaign)(?:_|$)|Manager|Handler|Helper")
# Interfaces of libraries whose words are not ours.
FOREIGN_WORDS = {"add_signal_handler", "Handler", "WSHandler", "ExceptionHandler", "set_exception_handler"}
CLOCK_AND_CHANCE = re.compile(
    r"datetime\.now|utcnow|date\.today|time\.time\(|monotonic\(|perf_counter|\brandom\b\.|secrets\.|os\.environ|uuid4|\bopen\("
)
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def _named(path):
    return str(path.relative_to(ROOT))


def _functions(path):
    tree = ast.parse(path.read_text("utf8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _body_lines(function):
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    return (
        function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)
    )


@pytest.mark.parametrize("path", [*SOURCE, *TESTS, *SCRIPTS], ids=_named)
def test_files_and_functions_fit(path):
    """No file over 600 lines, no function over 70, its docstring not counted."""
    assert len(path.read_text("utf8").splitlines()) <= FILE_LINES
    assert not [f.name for f in _functions(path) if _body_lines(f) > FUNCTION_LINES]


def test_most_functions_are_short():
    """Median at most 8 lines, nine of ten at most 30."""
    lengths = sorted(_body_lines(function) for path in SOURCE for function in _functions(path))
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[len(lengths) * 9 // 10] <= 30


@pytest.mark.parametrize("path", SOURCE, ids=_named)
def test_words_of_the_glossary(path):
    """Files and names say what they are for (house.md §5); `channels/base.py` is the one base."""
    assert path.stem not in BANNED_FILES or _named(path).endswith("channels/base.py")
    tree = ast.parse(path.read_text("utf8"))
    defined = {
        n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assert not [name for name in defined - FOREIGN_WORDS if BANNED_NAMES.search(name)]


def test_only_sources_are_kept():
    """What an editor or a patch left behind does not travel in the wheel."""
    kinds = {".py", ".sql", ".typed", ".pyc"}
    files = [path for path in (ROOT / "src/speedsms").rglob("*") if path.is_file()]
    assert {path.suffix or path.name for path in files} <= kinds | {"py.typed"}


@pytest.mark.parametrize("path", SOURCE, ids=_named)
def test_modules_say_what_they_are_for(path):
    """Every module that holds code opens with a docstring."""
    text = path.read_text("utf8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", PURE, ids=_named)
def test_rules_have_no_clock_and_no_chance(path):
    """Time, randomness and configuration are arguments of the pure parts."""
    assert not CLOCK_AND_CHANCE.findall(path.read_text("utf8"))


def test_one_file_on_each_side_reads_the_environment():
    """Everybody else gets settings; a process may pass its environment on, or be armed to fail in a test."""
    reading = re.compile(r"""os\.(?:getenv|environ\.get(?!\("SPEEDSMS_FAILPOINT)|environ\[[^\]]+\](?! =))""")
    readers = {_named(path) for path in SOURCE if reading.search(path.read_text("utf8"))}
    assert readers <= {"src/speedsms/gateway/config.py", "src/speedsms/settings.py"}


@pytest.mark.parametrize("path", [*SOURCE, *TESTS, *SCRIPTS], ids=_named)
def test_nothing_is_left_for_later(path):
    """Plans live in the issue tracker, not between the lines."""
    assert path.name == "test_tidy.py" or not UNFINISHED.search(path.read_text("utf8"))


@pytest.mark.parametrize("path", SOURCE, ids=_named)
def test_nobody_prints(path):
    """The gateway logs; commands write to the terminal through `speedsms.cli.terminal`."""
    calls = [n for n in ast.walk(ast.parse(path.read_text("utf8"))) if isinstance(n, ast.Call)]
    assert not [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]


@pytest.mark.parametrize("path", TESTS, ids=_named)
def test_every_test_says_its_promise(path):
    """A test without a docstring promises nothing."""
    tests = [f for f in _functions(path) if f.name.startswith("test_") and path.name.startswith("test_")]
    assert not [test.name for test in tests if not ast.get_docstring(test)]


def test_exceptions_are_explained():
    """Each silenced rule has its reason on the same line."""
    bare = re.compile(r"#\s*(?:noqa(?::\s*[A-Z0-9, ]+)?|type:\s*ignore(?:\[[^\]]*\])?)\s*$", re.MULTILINE)
    assert not [_named(path) for path in [*SOURCE, *SCRIPTS] if bare.search(path.read_text("utf8"))]


def test_no_machine_and_no_registry_in_the_sources():
    """Paths of one machine and names of package hosts have no place here."""
    banned = re.compile(r"/work/|/home/\w+/|files\.pythonhosted|pypi\.org|registry\.npmjs")
    paths = [*SOURCE, *TESTS, *SCRIPTS, ROOT / "pyproject.toml", *(ROOT / "docs").rglob("*.md")]
    assert not [
        _named(path)
        for path in paths
        if path.name != "test_tidy.py" and banned.search(path.read_text("utf8"))
    ]
