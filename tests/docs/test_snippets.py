"""Every block of Python and bash in README.md and docs/ does what its page says (experience U7).

How a page is read, and what comments before a block mean: reader.py. Blocks of `sh` are for an
operator with a gateway that runs, and are not read here; the pages of ELSEWHERE have tests of their own.
"""

import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import reader

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")  # a database on a disk that is busy takes its time
ELSEWHERE = {
    "docs/how-to/receive-webhooks.md": "tests/contrib/test_guide.py",
    "docs/how-to/test-your-code.md": "tests/sdk/test_testing_plugin.py",
}
UNTYPED = {"celery", "django"}  # they ship no types, so programs with them are not checked strictly
PAGES = {
    name: reader.blocks(page)
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if (name := page.relative_to(ROOT).as_posix()) not in ELSEWHERE
}
EACH = [
    pytest.param(name, number, id=f"{name}:{block.line}")
    for name, found in PAGES.items()
    for number, block in enumerate(found)
]


@cache
def told(name):
    """What went wrong with each block of a page, which one process reads in an empty folder."""
    with TemporaryDirectory(prefix="speedsms-page-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SPEEDSMS_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        done = subprocess.run(
            [sys.executable, reader.__file__, ROOT / name],
            cwd=folder,
            env={
                **kept,
                "PATH": path,
                "XDG_CONFIG_HOME": folder,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(ROOT / "tests"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), EACH)
def test_the_block_does_what_it_says(name, number):
    """It runs after those before it, in a process of its page, against a fake gateway."""
    found = PAGES[name]
    for needed in filter(None, (block.needs for block in found[: number + 1])):
        if not find_spec(needed):
            pytest.skip(f"{needed} is not installed")
    if found[number].note == "not run":
        pytest.skip(found[number].told)
    assert told(name)[number] is None


@pytest.mark.slow
def test_the_samples_are_typed(tmp_path):
    """Whoever copies one into a project that is checked strictly gets no error (experience U6)."""
    pytest.importorskip("mypy")
    for name, found in PAGES.items():
        needed = next(filter(None, (block.needs for block in found)), None)
        shown = [block for block in found if block.language == "python" and block.note != "not run"]
        if needed in UNTYPED or (needed and not find_spec(needed)):
            continue
        for stem in {block.file for block in shown}:
            text = "\n".join(block.text for block in shown if block.file == stem)
            path = tmp_path / re.sub(r"\W", "_", name) / (stem or "page.py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf8")
    files = sorted(path for path in tmp_path.glob("*/*.py") if not path.name.startswith("test_"))
    assert len(files) >= 5
    for folder in {path.parent for path in files}:
        inside = [path for path in files if path.parent == folder]
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *inside]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_block_is_overlooked():
    """Whatever looks like a block of Python or bash is one of those that are read."""
    for name, found in PAGES.items():
        text = (ROOT / name).read_text("utf8")
        fences = re.findall(r"^[ \t>]*```+ *(?:python|py|pycon|bash|shell)\b", text, re.MULTILINE)
        assert len(fences) == len(found), name


def test_hardly_any_block_is_left_out():
    """What no machine can do here is said, with its reason, and counted."""
    left = [block for found in PAGES.values() for block in found if block.note == "not run"]
    assert len(left) <= 6
    assert all(block.told for block in left)


def test_files_are_used():
    """A block that is a file is run by a later block of its page."""
    for found in PAGES.values():
        for number, block in enumerate(found):
            if block.file:
                later = "".join(other.text for other in found[number + 1 :] if other.note != "not run")
                stem = block.file.removesuffix(".py")
                assert re.search(rf"(?:import |from |python |pytest |uvicorn |=){stem}\b", later), block


def test_pages_with_tests_of_their_own():
    """They exist, and so do their tests."""
    for page, test in ELSEWHERE.items():
        assert (ROOT / page).exists()
        assert Path(page).name in (ROOT / test).read_text("utf8")
