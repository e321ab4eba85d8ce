"""Joins the journals with the database: no product code, only SQL (invariants §3)."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import psycopg

_DRAINED = """
SELECT (SELECT count(*) FROM message) - (SELECT count(*) FROM final), (SELECT count(*) FROM ready),
    (SELECT count(*) FROM flight), (SELECT count(*) FROM outbox)
"""
_STUCK = """
SELECT f.lane, f.attempt, f.node_id, f.due - now(), count(*), (
    SELECT string_agg(e.attempt || e.kind || ' ' || coalesce(left(e.detail, 60), ''), '; ' ORDER BY e.at)
    FROM event e WHERE e.message = f.message) AS events
FROM flight f GROUP BY f.lane, f.attempt, f.node_id, f.due, events LIMIT 10
"""
_BOOKS = """
SELECT a.id, a.balance_vnd,
    coalesce((SELECT sum(CASE 2 WHEN credit THEN amount_vnd WHEN debit THEN -amount_vnd ELSE 0 END)
              FROM transfer t WHERE t.account_id = a.id), 0),
    coalesce((SELECT sum(CASE 3 WHEN credit THEN amount_vnd WHEN debit THEN -amount_vnd ELSE 0 END)
              FROM transfer t WHERE t.account_id = a.id), 0)
FROM account a
"""


@dataclass(frozen=True)
class Figures:
    """What a run saw. acked, refused, unknown: requests; repeated: the same event posted more than once."""

    requests: int
    acked: int
    refused: int
    unknown: int
    messages: int
    webhooks: int
    repeated_webhooks: int
    repeated_attempts: int

    def __str__(self):
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.__dict__.items())


async def drained(url, within_s=90.0):
    """Wait until every message is final and every webhook is through."""
    deadline = time.monotonic() + within_s
    while True:
        left = _rows(url, _DRAINED)[0]
        if not any(left):
            return
        assert time.monotonic() < deadline, (
            f"not final, ready, in flight, in the outbox: {left}; {_rows(url, _STUCK)}"
        )
        await asyncio.sleep(0.1)


def check(url, sent, sink):
    """Every invariant that the journals can show; `url` is of a drained database."""
    _check_requests(url, sent)
    _check_money(url)
    _check_webhooks(url, sink)
    acked = sum(bool(s.acked) for s in sent)
    unknown = sum(s.unknown and not s.acked for s in sent)
    times = [sum(bodies.values()) for bodies in sink.bodies.values()]
    return Figures(
        requests=len(sent),
        acked=acked,
        refused=len(sent) - acked - unknown,
        unknown=unknown,
        messages=_rows(url, "SELECT count(*) FROM message")[0][0],
        webhooks=sum(times),
        repeated_webhooks=sum(n - 1 for n in times),
        repeated_attempts=_rows(url, "SELECT count(*) FROM event WHERE kind IN ('lost', 'retried')")[0][0],
    )


def _rows(url, sql):
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql).fetchall()


def _check_requests(url, sent):
    """I1 to I3: acknowledged is there whole and once, refused is not there, unknown is all or nothing."""
    stored = defaultdict(list)
    for tran_id, content, numbers in _rows(
        url,
        "SELECT r.tran_id, r.content, array_remove(array_agg(m.number ORDER BY m.id), NULL)"
        " FROM request r LEFT JOIN message m ON m.id >> 7 = r.id GROUP BY r.tran_id, r.id, r.content",
    ):
        stored[content].append((tran_id, [f"0{number - 84 * 10**9}" for number in numbers]))
    lost = [s for s in sent if s.acked and (s.tran_id, s.phones) not in stored[s.content]]
    twice = [s for s in sent if len(stored[s.content]) > 1]
    partial = [s for s in sent if any(phones != s.phones for _, phones in stored[s.content])]
    refused = [s for s in sent if stored[s.content] and not s.acked and not s.unknown]
    unequal = [s for s in sent if s.key and len(set(s.acked)) > 1]
    assert not lost, f"I1 acknowledged and lost: {lost[:3]}"
    assert not twice, f"I4 executed more than once: {twice[:3]}"
    assert not partial, f"I3 partial: {partial[:3]}"
    assert not refused, f"I2 refused and yet there: {refused[:3]}"
    assert not unequal, f"I3 replays differ: {unequal[:3]}"
    assert {c for c in stored if stored[c]} <= {s.content for s in sent}, "a request nobody sent"


def _check_money(url):
    """I4, I5, I11: each hold is the price of its messages and ended once; the books agree to the đồng."""
    wrong = _rows(
        url,
        "SELECT r.tran_id, r.total_vnd, sum(m.price_vnd), min(t.amount_vnd)"
        " FROM request r JOIN message m ON m.id >> 7 = r.id"
        " LEFT JOIN transfer t ON t.ref = r.id << 7 AND t.leg = 0"
        " WHERE NOT r.test GROUP BY r.tran_id, r.id, r.total_vnd"
        " HAVING r.total_vnd <> sum(m.price_vnd) OR r.total_vnd IS DISTINCT FROM min(t.amount_vnd)",
    )
    assert not wrong, f"I4 hold and price differ: {wrong[:3]}"
    ends = _rows(
        url,
        "SELECT m.id FROM message m JOIN request r ON r.id = m.id >> 7"
        " LEFT JOIN transfer t ON t.ref = m.id AND t.leg = 1 AND t.amount_vnd = m.price_vnd"
        " WHERE NOT r.test GROUP BY m.id HAVING count(t.ref) <> 1",
    )
    assert not ends, f"I4 a hold without its one end: {ends[:3]}"
    orphans = _rows(
        url,
        "SELECT t.ref FROM transfer t WHERE t.code IN (2, 3, 4, 5) AND NOT EXISTS"
        " (SELECT FROM request r WHERE r.id = t.ref >> 7)",
    )
    assert not orphans, f"I4 money moved for a request that is not there: {orphans[:3]}"
    for account, balance, available, holding in _rows(url, _BOOKS):
        assert balance == available, f"I5 account {account}: {balance - available} VND difference"
        assert holding == 0, f"I11 account {account}: {holding} VND held for nothing"


def _check_webhooks(url, sink):
    """I24, I28 to I30: one final row each, told with its status; one event id never has two bodies."""
    finals = _rows(
        url,
        "SELECT ((f.message >> 7) & 2147483647)::int, m.entry, f.status FROM final f"
        " JOIN message m ON m.account_id = f.account_id AND m.id = f.message",
    )
    missing = [final for final in finals if final not in sink.told]
    assert not missing, f"I28 {len(missing)} final messages without their webhook: {missing[:3]}"
    unequal = [event for event, bodies in sink.bodies.items() if len(bodies) > 1]
    assert not unequal, f"I30 one event, two bodies: {unequal[:3]}"
    events = Counter(body for bodies in sink.bodies.values() for body in bodies)
    twice = [body for body, count in events.items() if count > 1]
    assert not twice, f"I24 one report under two event ids: {twice[:3]}"
    assert _rows(url, "SELECT count(*) FROM buried") == [(0,)], "I29 dead letters"
