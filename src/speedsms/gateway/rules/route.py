"""Which routes fit a message, and which channel may take it (channels §1.4, design §6).

At acceptance a message gets a pool: the set of routes that fit it. Which channel of the pool takes it is
decided when a channel has a slot free.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

SIMULATOR_POOL: Final = 0  # test tokens reach only the simulator (SI-4)


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the routing table; an empty condition fits everything. Lower priority goes first."""

    id: int
    channel_id: int
    priority: int
    kinds: frozenset[str]
    sms_types: frozenset[int]
    carriers: frozenset[str]
    prefixes: tuple[str, ...]

    def fits(self, kind: str, sms_type: int, carrier: str, e164: str) -> bool:
        return (
            kind in self.kinds
            and (not self.sms_types or sms_type in self.sms_types)
            and (not self.carriers or carrier in self.carriers)
            and (not self.prefixes or e164.startswith(self.prefixes))
        )


def fitting(routes: Iterable[Route], kind: str, sms_type: int, carrier: str, e164: str) -> tuple[int, ...]:
    """The ids of the routes that fit, best first: what names a pool."""
    found = [r for r in routes if r.fits(kind, sms_type, carrier, e164)]
    return tuple(r.id for r in sorted(found, key=lambda r: (r.priority, r.id)))


def pools_of(
    channel_id: int, routes: Sequence[Route], pools: dict[int, tuple[int, ...]], healthy: frozenset[int]
) -> list[int]:
    """The pools a channel may take from now: those where no better channel is healthy."""
    by_id = {r.id: r for r in routes}
    mine = []
    for pool, ids in pools.items():
        for route in (by_id[i] for i in ids if i in by_id):
            if route.channel_id == channel_id:
                mine.append(pool)
                break
            if route.channel_id in healthy:
                break
    return mine
