"""Fixtures of the receivers of webhooks."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the sample project of Django too

from receivers import RECEIVERS, Inbox


@pytest.fixture
def inbox():
    """What the functions of the receiver got."""
    return Inbox()


@pytest.fixture(params=RECEIVERS, ids=lambda receiver: receiver.__name__)
def post(request, inbox):
    """`post(body, headers, method="POST")` to a receiver; the HTTP status it answers with."""
    with ExitStack() as stack:
        yield stack.enter_context(request.param(inbox))
