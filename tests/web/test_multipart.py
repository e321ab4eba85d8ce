"""The gateway's reader of multipart bodies and the fake's, which is the standard library's, agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedsms.contract.decode import BadMultipart
from speedsms.gateway.web.api import multipart as gateway
from speedsms.testing import multipart as fake

KIND = b"multipart/form-data; boundary=abc"
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n-")), max_size=4)


def body(pairs):
    parts = b"".join(
        b'--abc\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in pairs
    )
    return parts + b"--abc--\r\n"


def read(reader, raw, kind=KIND):
    try:
        return reader.fields(raw, kind, 1000)
    except BadMultipart as refused:
        return refused.reason


@given(st.lists(st.tuples(NAMES, LINES.map("\r\n".join).map(str.encode)), min_size=1, max_size=5))
def test_text_fields(pairs):
    """Any UTF-8 text of any number of lines comes out as it went in, on both sides."""
    wanted = [(name.encode(), value) for name, value in pairs]
    assert read(gateway, body(pairs)) == read(fake, body(pairs)) == wanted


FILE = b'--abc\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nx\r\n--abc--\r\n'
ENCODED = (
    b'--abc\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n'
)
NESTED = (
    b'--abc\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: multipart/mixed; boundary=d\r\n\r\n'
)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (FILE, KIND),
        (ENCODED + b"--abc--\r\n", KIND),
        (NESTED + b"--d\r\n\r\nx\r\n--d--\r\n--abc--\r\n", KIND),
        (b"--abc\r\nContent-Disposition: form-data\r\n\r\nx\r\n--abc--\r\n", KIND),
        (body([("a", b"x")])[:-10], KIND),
        (b"nonsense", KIND),
        (body([("a", b"x")]), b"multipart/form-data"),
        (body([("a", b"x")] * 1001), KIND),
    ],
)
def test_what_is_refused(raw, kind):
    """Files, encodings, nesting, broken and endless bodies: one reason on both sides."""
    assert read(gateway, raw, kind) == read(fake, raw, kind)
    assert isinstance(read(fake, raw, kind), str)
