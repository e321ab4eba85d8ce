"""Links: which process holds which connection of a channel (CH-9).

A link belongs to a node as long as its node lives; what a dead node held is free. Nobody takes more than an
equal share while others are there to take the rest.
"""

from collections.abc import Collection

from speedsms.gateway.store.db import Database, fetch

_HELD = """
SELECT l.n, l.node_id = %(node)s, node.id IS NOT NULL FROM link l LEFT JOIN node ON node.id = l.node_id
WHERE channel_id = %(channel)s FOR UPDATE OF l
"""
_GIVE_UP = """
DELETE FROM link WHERE channel_id = %(channel)s AND node_id = %(node)s AND n = ANY(%(ended)s::smallint[])
"""
_TAKE = """
INSERT INTO link SELECT %(channel)s, n, %(node)s FROM unnest(%(wanted)s::smallint[]) n
ON CONFLICT (channel_id, n) DO UPDATE SET node_id = excluded.node_id
    WHERE NOT EXISTS (SELECT FROM node WHERE node.id = link.node_id)
RETURNING n
"""


async def share(
    db: Database, channel_id: int, node_id: int, links: int, running: Collection[int]
) -> set[int]:
    """The links of a channel of `links` that this node is to run from now on; `running`: those it runs.

    One that is to be given up is named no more; its row goes at the next call, when it has ended.
    """
    async with db.transaction() as session:
        params: dict[str, object] = {"channel": channel_id, "node": node_id}
        rows = await fetch(session, _HELD, params)
        workers = await fetch(session, "SELECT count(*) FROM node WHERE role = 'worker'")
        most = -(-links // max(workers[0][0], 1))
        mine = {n for n, own, _ in rows if own}
        if ended := mine.difference(running):
            await fetch(session, _GIVE_UP, params | {"ended": list(ended)})
        kept = set(sorted(mine.intersection(running))[:most])
        taken = {n for n, own, alive in rows if alive and not own} | mine.intersection(running)
        free = [n for n in range(links) if n not in taken]
        wanted = free[: most - len(kept)]
        took = await fetch(session, _TAKE, params | {"wanted": wanted}) if wanted else []
    return kept | {row[0] for row in took}
