"""Log lines hold no number, text, code or token, whatever is logged (channels CH-10, protocol §2)."""

import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from speedsms.gateway import log

TOKEN = "ss_live_4tYcGhqkE3mV0iXzQ1bWnR5sAo7LdJ2x8f"
CANARIES = (
    "0912345678",
    "84912345678",
    "912345678",
    "493027",
    TOKEN,
    "hunter2",
    "c3NfbGl2ZQ",
    "imported-token-0001",
)


@pytest.fixture
def lines(capfdbinary):
    """Configures JSON output and gives a function that reads what was written since."""
    log.configure("info", "json", process="test")
    return lambda: [json.loads(line) for line in capfdbinary.readouterr().err.splitlines()]


def _log_canaries():
    logger = structlog.get_logger()
    logger.info(
        "to 84912345678", number=84912345678, content="ma 493027", pin="493027", entry="(091) 234-56.78"
    )
    logger.info("call", url="/sms/send?access-token=imported-token-0001&to=0912345678", to=["+84912345678"])
    logger.info(
        "head",
        header="Basic c3NfbGl2ZQ==",
        nested={"otp": "493027", "deep": [TOKEN]},
        error=ValueError(TOKEN),
    )
    logger.info("dsn", dsn="postgresql://u:hunter2@h/db", detail="old 0162 1234567")
    logging.getLogger("library").error("failed for 0912345678 with %s", TOKEN)
    try:
        int(f"0912345678 {TOKEN}")
    except ValueError:
        logger.exception("broke", authorization="hunter2")


def test_canaries_do_not_get_out(lines):
    """Planted numbers, codes and tokens are in no byte of the output, tracebacks included."""
    _log_canaries()
    written = lines()
    assert len(written) == 6
    text = json.dumps(written, ensure_ascii=False)
    assert not [canary for canary in CANARIES if canary in text]
    assert "84•••••678" in text
    assert all(line["process"] == "test" and line["level"] and line["timestamp"] for line in written)


def test_console_output_is_redacted_too(capfd):
    """The form for people shows no more than the one for programs."""
    log.configure("info", "console")
    _log_canaries()
    text = capfd.readouterr().err
    structlog.reset_defaults()
    assert "84•••••678" in text
    assert not [canary for canary in CANARIES if canary in text]


def test_levels_are_kept(lines):
    """What is less important than the setting is not written."""
    structlog.get_logger().debug("no")
    structlog.get_logger().warning("yes")
    assert [line["event"] for line in lines()] == ["yes"]


@pytest.mark.parametrize(
    "harmless",
    [
        "2026-12-07T03:00:00.123456Z",
        "10.0.0.1:8100",
        "123456789012345678",
        "tran 2147483647",
        "0.123456789",
        "84 ms",
    ],
)
def test_what_is_no_number_stays(harmless):
    """Times, addresses, ids and figures remain readable."""
    assert log.redacted(harmless) == harmless


@given(
    st.sampled_from(["0", "84", "+84", "0084", "840", "+840"]),
    st.from_regex(r"[35789][0-9]{8}", fullmatch=True),
    st.lists(st.sampled_from(["", " ", ".", "-", "(", ")", "\u00a0"]), min_size=9, max_size=9),
)
def test_a_number_in_any_spelling_is_masked(prefix, digits, separators):
    """However callers write a number, its middle does not reach a line (protocol §9.1)."""
    written = prefix + "".join(s + d for s, d in zip(separators, digits, strict=True))
    assert log.redacted(f"x {written} y") == f"x 84•••••{digits[-3:]} y"
