"""Who is asking (protocol §2): credentials, their limits, and the address they come from. No I/O."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from math import ceil
from typing import Final, TypeAlias

from speedsms.contract.decode import name, value

WRONG_PER_MINUTE: Final = 30
_WINDOW_S: Final = 60.0
_ADDRESSES: Final = 10_000  # remembered at once; the longest quiet one is forgotten first
_NEVER: Final = re.compile(rb"[^\x21-\x7e]")

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address


class WrongCredentials(Exception):  # noqa: N818 - it names the answer, as 401 does
    """Credentials are there and cannot be right; missing ones are None."""


def secret(fields: Sequence[bytes], query: bytes) -> tuple[bytes | None, bool]:
    """The token of a request, and whether the query named it. fields: all `Authorization` headers.

    Raises WrongCredentials.
    """
    in_query = [value(pair) for pair in query.split(b"&") if name(pair) == b"access-token"] if query else []
    if len(fields) > 1 or len(in_query) > 1:
        raise WrongCredentials
    tokens = [*map(_from_header, fields), *in_query]
    if not tokens:
        return None, False
    # D6: a header and a query token may both be present only if they are the same.
    if tokens[0] != tokens[-1] or not tokens[0] or _NEVER.search(tokens[0]):
        raise WrongCredentials
    return tokens[0], bool(in_query)


@lru_cache(maxsize=4096)
def _from_header(field: bytes) -> bytes:
    """The token inside one `Authorization` field: Basic (A1 to A3) or Bearer (A5)."""
    scheme, _, rest = field.strip().partition(b" ")
    match scheme.lower():
        case b"basic":
            return _basic(rest.strip())
        case b"bearer":
            return rest.strip()
    raise WrongCredentials


def _basic(encoded: bytes) -> bytes:
    bare = encoded.rstrip(b"=")
    if len(encoded) - len(bare) not in (0, -len(bare) % 4):  # padding is optional, but not free
        raise WrongCredentials
    try:
        return b64decode(bare + b"=" * (-len(bare) % 4), validate=True).partition(b":")[0]
    except Base64Error as error:
        raise WrongCredentials from error


class WrongLimit:
    """Counts wrong credentials per address: 30 in any minute, then 429 (protocol §2)."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}

    def wait_s(self, address: str, now: float) -> int:
        """Count one wrong try. 0, or the seconds until the next one is answered as such."""
        times = self._seen.pop(address, None) or deque[float](maxlen=WRONG_PER_MINUTE)
        self._seen[address] = times
        if len(self._seen) > _ADDRESSES:
            del self._seen[next(iter(self._seen))]
        if len(times) == WRONG_PER_MINUTE and times[0] > now - _WINDOW_S:
            return ceil(times[0] + _WINDOW_S - now)
        times.append(now)
        return 0


@lru_cache(maxsize=1024)
def networks(written: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses and CIDR blocks of a list. Raises ValueError."""
    return tuple(ip_network(item, strict=False) for item in written)


def inside(address: str, written: tuple[str, ...]) -> bool:
    """Whether an address stands on a list; what is no address (a socket path) never does."""
    found = _parsed(address)
    return found is not None and any(found in network for network in networks(written))


def private(address: str) -> bool:
    """Whether an address belongs to this machine or to a network that is not the internet."""
    found = _parsed(address)
    return found is not None and found.is_private


def _parsed(address: str) -> Address | None:
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def client_address(peer: str, headers: Headers, trusted: tuple[str, ...]) -> str:
    """The peer, or behind trusted proxies the last address that is none of them (protocol §3)."""
    if not trusted or not inside(peer, trusted):
        return peer
    chain = b",".join(text for field, text in headers if field == b"x-forwarded-for").decode("latin-1")
    for hop in reversed([item.strip() for item in chain.split(",") if item.strip()]):
        if not inside(hop, trusted):
            return hop
    return peer
