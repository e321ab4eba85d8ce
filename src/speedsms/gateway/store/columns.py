"""Columns of a batch as text: binary arrays cost three times the CPU here."""

from collections.abc import Iterable
from typing import Final

# Values are joined by a character that no valid value holds: it is refused in texts (protocol §10.5), numbers
# and names. What a peer sends goes through `tame` first.
_SEPARATOR: Final = "\x1f"


def each(name: str, kind: str) -> str:
    """SQL: the parameter `name` as an array of `kind`; what is empty is NULL."""
    return f"string_to_array(%({name})s, chr(31), '')::{kind}[]"


def column(values: Iterable[object]) -> str:
    return _SEPARATOR.join(map(str, values))


def sparse(values: Iterable[object]) -> str:
    """A column in which None may stand."""
    return _SEPARATOR.join(["" if value is None else str(value) for value in values])


def tame(text: str) -> str:
    """A peer's text without what PostgreSQL or a joined column does not take."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
