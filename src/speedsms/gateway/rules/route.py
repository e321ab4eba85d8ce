"""Which routes fit a message, and which channel may take it (channels §1.4, design §6).

At acceptance a message gets a pool: the set of routes that fit it. Which channel of the pool takes it is
decided when a channel has a slot free.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SIMULATOR_POOL: Final = 0  # test tokens reach only the simulator (SI-4)


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the routing table; an empty condition fits everything.

    Lower priority goes first, and of the same priority what costs less. cost_vnd: of a part, ours to pay.
    """

    id: int
    channel_id: int
    priority: int
    kinds: frozenset[str]
    sms_types: frozenset[int]
    carriers: frozenset[str]
    prefixes: tuple[str, ...]
    cost_vnd: int = 0

    @property
    def standing(self) -> tuple[int, int]:
        return self.priority, self.cost_vnd

    @property
    def rank(self) -> tuple[int, int, int]:
        return *self.standing, self.id

    def fits(self, kind: str, sms_type: int, carrier: str, e164: str) -> bool:
        return (
            kind in self.kinds
            and (not self.sms_types or sms_type in self.sms_types)
            and (not self.carriers or carrier in self.carriers)
            and (not self.prefixes or e164.startswith(self.prefixes))
        )


def misfit(route: Route, kind: str, sms_type: int, carrier: str, e164: str) -> str | None:
    """The first condition of a route that a message does not meet, for people; None if it fits."""
    if route.fits(kind, sms_type, carrier, e164):
        return None
    if kind not in route.kinds:
        return f"it is for {_words(route.kinds)} only"
    if route.sms_types and sms_type not in route.sms_types:
        return f"it is for type {_words(map(str, route.sms_types))} only"
    if route.carriers and carrier not in route.carriers:
        return f"it is for numbers of {_words(route.carriers)} only"
    return f"it is for numbers that begin with {_words(route.prefixes)} only"


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def fitting(routes: Iterable[Route], kind: str, sms_type: int, carrier: str, e164: str) -> tuple[int, ...]:
    """The ids of the routes that fit, best first: what names a pool."""
    found = [r for r in routes if r.fits(kind, sms_type, carrier, e164)]
    return tuple(r.id for r in sorted(found, key=lambda r: r.rank))


def turns(routes: Iterable[Route], healthy: Container[int]) -> dict[int, int]:
    """When each healthy channel of some routes has its turn: 1 is now, 2 after those refuse; equals share."""
    standings: list[tuple[int, int]] = []
    found: dict[int, int] = {}
    for route in sorted(routes, key=lambda r: r.rank):
        if route.channel_id in healthy and route.channel_id not in found:
            if route.standing not in standings:
                standings.append(route.standing)
            found[route.channel_id] = len(standings)
    return found


def pools_of(
    channel_id: int, routes: Iterable[Route], pools: Mapping[int, tuple[int, ...]], healthy: frozenset[int]
) -> list[int]:
    """The pools a channel may take from now: those where no better channel is healthy."""
    by_id = {r.id: r for r in routes}
    able = healthy | {channel_id}
    return [
        pool
        for pool, ids in pools.items()
        if turns((by_id[i] for i in ids if i in by_id), able).get(channel_id) == 1
    ]


def without(routes: Sequence[Route], ids: tuple[int, ...], channel_id: int) -> tuple[int, ...]:
    """What a pool's routes are for a message that this channel has refused."""
    refused = {r.id for r in routes if r.channel_id == channel_id}
    return tuple(i for i in ids if i not in refused)
