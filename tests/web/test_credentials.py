"""Credentials, wrong ones, and addresses: what the golden vectors do not spell out (protocol §2, §3)."""

from base64 import b64encode

import pytest

from speedsms.contract import credentials


@pytest.mark.parametrize(
    ("fields", "query", "secret"),
    [
        ([], b"", None),
        ([b"BASIC  " + b64encode(b"tok:a:b")], b"", b"tok"),
        ([b"bearer tok"], b"", b"tok"),
        ([], b"a=1&access%2Dtoken=t%6Fk", b"tok"),
        ([b"Bearer tok"], b"access-token=tok", b"tok"),
    ],
)
def test_credentials(fields, query, secret):
    """Every accepted form names the same token (A1 to A5)."""
    assert credentials.secret(fields, query) == (secret, b"access" in query)


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        ([b""], b""),
        ([b"Basic"], b""),
        ([b"Bearer"], b""),
        ([b"tok"], b""),
        ([b"Digest tok"], b""),
        ([b"Basic dG9rOng===="], b""),
        ([b"Basic d*rOng="], b""),
        ([b"Bearer t\xc3\xb6k"], b""),
        ([b"Bearer a b"], b""),
        ([b"Bearer tok", b"Bearer tok"], b""),
        ([b"Bearer tok"], b"access-token=other"),
        ([], b"access-token="),
        ([], b"access-token=a&access-token=a"),
    ],
)
def test_wrong_credentials(fields, query):
    """Everything else that is there is wrong, not missing (A6, D6)."""
    with pytest.raises(credentials.WrongCredentials):
        credentials.secret(fields, query)


def test_wrong_credentials_are_limited():
    """30 in a minute and address are answered 401; then the caller is told how long to wait."""
    limit = credentials.WrongLimit()
    assert [limit.wait_s("a", second) for second in range(30)] == [0] * 30
    assert limit.wait_s("a", 30.5) == 30
    assert limit.wait_s("b", 30.5) == 0
    assert limit.wait_s("a", 60) == 0
    assert limit.wait_s("a", 60) == 1


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("203.0.113.9", True),
        ("::ffff:203.0.113.9", True),
        ("2001:db8::1", True),
        ("198.51.100.7", False),
        ("/run/socket", False),
    ],
)
def test_allow_list(address, inside):
    """Addresses and blocks of both families; a mapped address is the address it maps."""
    assert credentials.inside(address, ("203.0.113.0/24", "2001:db8::1")) is inside


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("198.51.100.7", b"203.0.113.9", "198.51.100.7"),
        ("10.0.0.1", b"203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", b"1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", b"10.0.0.3", "10.0.0.1"),
    ],
)
def test_client_address(peer, chain, client):
    """Forwarded addresses count only behind trusted proxies, and only the last that is none (§3)."""
    assert credentials.client_address(peer, [(b"x-forwarded-for", chain)], ("10.0.0.0/8",)) == client
