"""The journals, the checker and the gateway under test are plain modules of this folder."""

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def folder():
    """One that the database's account may enter, which pytest's own is not when root runs the tests."""
    path = Path(tempfile.mkdtemp(prefix="speedsms-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)
