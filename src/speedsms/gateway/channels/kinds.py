"""The kinds of channel by name. A kind's code is imported when a channel of it is built or checked."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from speedsms.gateway.channels.base import Channel, Surroundings

# kind → module, channel, checker of its settings
KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "sim": ("speedsms.gateway.channels.sim", "Sim", "settings_of"),
    "smpp": ("speedsms.gateway.channels.smpp.client", "Smpp", "settings_of"),
}


def _part(kind: str, index: int) -> Any:
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    return getattr(import_module(KINDS[kind][0]), KINDS[kind][index])


def check(kind: str, settings: Mapping[str, Any]) -> None:
    """Raises ValueError naming the bad key (CH-11)."""
    _part(kind, 2)(settings)


def build(kind: str, name: str, settings: Mapping[str, Any], around: Surroundings) -> Channel:
    """A channel from its stored settings. Raises ValueError naming the bad key (CH-11)."""
    channel: Channel = _part(kind, 1)(name, settings, around)
    return channel
