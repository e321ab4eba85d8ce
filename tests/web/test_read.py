"""The reader alone: what the golden vectors do not spell out (protocol §4, §15.3)."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.contract import decode, read
from speedsms.contract.declined import Declined
from speedsms.gateway.web.api.multipart import fields
from speedsms.wire import Code, Reason

NOW = datetime(2026, 12, 7, 3, tzinfo=UTC)
JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
PLAIN = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=60)


def read_json(**parameters):
    return read.send(b"", json.dumps(parameters).encode(), JSON, now=NOW, multipart=fields)


def code(query: bytes, body: bytes, kind: bytes) -> Code | None:
    """The code of the refusal, None if the request is read."""
    try:
        read.send(query, body, kind, now=NOW, multipart=fields)
    except Declined as no:
        return no.code
    return None


def refusal(query: bytes, body: bytes, kind: bytes) -> tuple[Code, Reason]:
    with pytest.raises(Declined) as no:
        read.send(query, body, kind, now=NOW, multipart=fields)
    return no.value.code, no.value.reason


@given(
    st.binary(max_size=300),
    st.sampled_from([JSON, FORM, b"", b"multipart/form-data; boundary=b"]),
    st.binary(max_size=60),
)
def test_no_input_breaks_the_reader(body, kind, query):
    """Whatever arrives is read or refused; nothing else is ever raised (protocol §1.4)."""
    assert code(query, body, kind) in (None, Code.BAD_PARAMETERS, Code.NOT_SENDABLE)


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5)
)
def test_no_value_breaks_the_reader(value):
    """Every parameter may hold any JSON value."""
    for name in ("to", "content", "sms_type", "sender", "send_at", "validity_s", "reference"):
        body = json.dumps({"to": ["0912345678"], "content": "hi"} | {name: value}).encode()
        assert code(b"", body, JSON) in (None, Code.BAD_PARAMETERS)


@given(PLAIN.filter(lambda text: text.strip(read._WHITE_SPACE)))
def test_json_and_form_carry_the_same_text(content):
    """A text reads alike as JSON, escaped JSON, form and query (protocol §4.2)."""
    pairs = urlencode({"to": "0912345678", "content": content}).encode()
    raw = json.dumps({"to": "0912345678", "content": content}, ensure_ascii=False).encode()
    escaped = json.dumps({"to": "0912345678", "content": content}).encode()
    commands = [
        read.send(b"", pairs, FORM, now=NOW, multipart=fields),
        read.send(pairs, b"", b"", now=NOW, multipart=fields),
        read.send(b"", raw, JSON, now=NOW, multipart=fields, percent_decode=False),
        read.send(b"", escaped, b"", now=NOW, multipart=fields, percent_decode=False),
    ]
    assert {command.content for command in commands} == {content}


@given(st.lists(PLAIN.map(lambda entry: entry.replace(",", "")).filter(str.strip), min_size=1, max_size=100))
def test_array_entries_are_kept_verbatim(entries):
    """An array's elements are neither trimmed nor split (protocol §4.4)."""
    assert read_json(to=entries, content="x").entries == tuple(entries)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"to":"\\ud800","content":"x"}', Reason.WRONG_TYPE),
        (b'{"to":"1","content":"x","sender":"a\\u0000"}', Reason.WRONG_TYPE),
        (b'{"to":[true],"content":"x"}', Reason.WRONG_TYPE),
        (b'{"to":1.5,"content":"x"}', Reason.WRONG_TYPE),
        (b'{"to":"' + b"1" * 65 + b'","content":"x"}', Reason.JSON_LIMITS),
        (b'{"to":"1","content":"x","y":1.0000000000000000000}', Reason.JSON_LIMITS),
        (b'{"to":"1","content":"x","y":01}', Reason.BAD_JSON),
        (b'\x0b{"to":"1","content":"x"}', Reason.BAD_JSON),
        (b"{\0}\0", Reason.BAD_JSON),
        (b"[" * 100_000, Reason.JSON_LIMITS),
        (b'{"a":' * 33 + b"}" * 33, Reason.JSON_LIMITS),
    ],
)
def test_strict_json(body, reason):
    """What RFC 8259 or the limits of §1.2 do not allow is 101 with its reason."""
    assert refusal(b"", body, JSON) == (Code.BAD_PARAMETERS, reason)


def test_brackets_inside_strings_are_no_nesting():
    """Only real nesting counts against the limit of 32."""
    assert read_json(to="1", content="[" * 40 + '{"' * 40).content.startswith("[[")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-12-07T10:00:01+07:00", NOW + timedelta(seconds=1)),
        ("2026-12-07t03:00:00.5z", NOW + timedelta(seconds=0.5)),
        (int(NOW.timestamp()) + 60, NOW + timedelta(seconds=60)),
        (str(int(NOW.timestamp()) + 60), NOW + timedelta(seconds=60)),
        ("2026-12-07T02:55:00Z", None),
        ("", None),
        (None, None),
    ],
)
def test_send_at(written, meant):
    """RFC 3339 or Unix seconds; a moment up to five minutes old means now (protocol §15.3)."""
    assert read_json(to="1", content="x", send_at=written).send_at == meant


@pytest.mark.parametrize(
    "option",
    [
        {"send_at": "2026-12-07T10:00:00"},
        {"send_at": "2026-12-07 10:00:00+07:00"},
        {"send_at": 1.5},
        {"send_at": True},
        {"send_at": 10**19},
        {"send_at": "2026-12-07T02:54:59Z"},
        {"validity_s": "30s"},
        {"validity_s": False},
        {"reference": 5},
        {"reference": "a\n"},
    ],
)
def test_malformed_options(option):
    """A malformed option is 101 bad_option, never ignored."""
    assert refusal(b"", json.dumps({"to": "1", "content": "x"} | option).encode(), JSON) == (
        Code.BAD_PARAMETERS,
        Reason.BAD_OPTION,
    )


def part(name: str, text: str, *more: str) -> bytes:
    lines = ["--b", f'Content-Disposition: form-data; name="{name}"', *more, "", text, ""]
    return "\r\n".join(lines).encode()


MULTIPART = b"multipart/form-data; boundary=b"


def test_multipart_fields():
    """Text fields of a multipart body read like a form (D10)."""
    body = (
        part("to[]", "1")
        + part("to[]", "2")
        + part("content", "má", "Content-Transfer-Encoding: 8bit")
        + b"--b--\r\n"
    )
    command = read.send(b"", body, MULTIPART, now=NOW, multipart=fields)
    assert (command.entries, command.content) == (("1", "2"), "má")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (part("to", "1", "Content-Transfer-Encoding: base64") + b"--b--", Reason.WRONG_TYPE),
        (part("to", "1", "Content-Type: multipart/mixed; boundary=c") + b"--b--", Reason.WRONG_TYPE),
        (part("to", "1"), Reason.BAD_JSON),
        (b"no boundary at all", Reason.BAD_JSON),
        (part("a", "1") * 1001 + b"--b--", Reason.JSON_LIMITS),
    ],
)
def test_multipart_refused(body, reason):
    """Encodings, nesting, cut bodies and too many fields are 101 (D10, §1.2)."""
    assert refusal(b"", body, MULTIPART) == (Code.BAD_PARAMETERS, reason)


def test_fingerprinted_query_has_no_token():
    """`access-token` leaves the query in every spelling, and nothing else does (§15.1)."""
    assert decode.without_token(b"a=1&access-token=x&b=%41&access%2Dtoken=y&c") == b"a=1&b=%41&c"
