"""The kinds of channel by name. A kind's code is imported when a channel of it is built."""

from collections.abc import Callable, Mapping
from datetime import datetime
from importlib import import_module
from typing import Any, Final

from speedsms.gateway.channels.base import Channel

KINDS: Final[Mapping[str, tuple[str, str]]] = {"sim": ("speedsms.gateway.channels.sim", "Sim")}


def build(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    *,
    now: Callable[[], datetime],
    asked: Callable[[str], str | None],
) -> Channel:
    """A channel from its stored settings. Raises ValueError naming the bad key (CH-11)."""
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    module, factory = KINDS[kind]
    channel: Channel = getattr(import_module(module), factory)(name, settings, now=now, asked=asked)
    return channel
