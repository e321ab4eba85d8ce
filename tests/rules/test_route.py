"""Routes: what fits, in which order, and why not."""

from hypothesis import given
from hypothesis import strategies as st

from speedsms.gateway.rules import state
from speedsms.gateway.rules.route import Route, fitting, misfit, pools_of, turns

KINDS = ("sms", "voice")
CARRIERS = ("viettel", "mobifone", "foreign:66")
PREFIXES = ("8491", "8490", "66")
NUMBERS = ("84912345678", "84901234567", "66812345678")

routes = st.builds(
    Route,
    id=st.integers(1, 99),
    channel_id=st.integers(1, 3),
    priority=st.integers(1, 3),
    kinds=st.frozensets(st.sampled_from(KINDS), min_size=1),
    sms_types=st.frozensets(st.integers(1, 8), max_size=2),
    carriers=st.frozensets(st.sampled_from(CARRIERS), max_size=2),
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=2).map(tuple),
    cost_vnd=st.integers(0, 3),
)
messages = st.tuples(
    st.sampled_from(KINDS), st.integers(1, 8), st.sampled_from(CARRIERS), st.sampled_from(NUMBERS)
)


@given(routes, messages)
def test_what_does_not_fit_says_why(route, message):
    """There is a reason exactly when a route does not fit, and it names the condition."""
    why = misfit(route, *message)
    assert (why is None) == route.fits(*message)
    kind, sms_type, carrier, e164 = message
    for word, unmet in (
        ("type", route.sms_types and sms_type not in route.sms_types),
        ("numbers of", route.carriers and carrier not in route.carriers),
        ("begin with", route.prefixes and not e164.startswith(route.prefixes)),
    ):
        if kind in route.kinds and why and word in why:
            assert unmet


@given(st.lists(routes, unique_by=lambda r: r.id), messages)
def test_priority_goes_before_cost(table, message):
    """The first route that fits has the lowest priority, and of those the lowest cost."""
    ids = fitting(table, *message)
    by_id = {route.id: route for route in table}
    ranks = [(by_id[i].priority, by_id[i].cost_vnd, i) for i in ids]
    assert ranks == sorted(ranks)
    assert {*ids} == {route.id for route in table if route.fits(*message)}


@given(st.lists(routes, unique_by=lambda r: r.id), st.frozensets(st.integers(1, 3)))
def test_dispatch_and_explain_agree(table, healthy):
    """A channel may take a pool exactly when its turn is the first among the healthy ones and itself."""
    pools = {7: tuple(route.id for route in table)}
    for channel in (1, 2, 3):
        turn = turns(table, healthy | {channel})
        assert (pools_of(channel, table, pools, healthy) == [7]) == (turn.get(channel) == 1)
        better = {
            r.channel_id
            for r in table
            for mine in [min((r.standing for r in table if r.channel_id == channel), default=(9, 9))]
            if r.standing < mine and r.channel_id in healthy
        }
        assert (turn.get(channel) == 1) == (channel in {r.channel_id for r in table} and not better)


@given(st.lists(routes, unique_by=lambda r: r.id))
def test_equals_share_a_turn(table):
    """Turns count from one without a gap, and follow each channel's best route."""
    turn = turns(table, range(9))
    best = {c: min(r.standing for r in table if r.channel_id == c) for c in turn}
    assert sorted(set(turn.values())) == list(range(1, len(set(best.values())) + 1))
    assert all((turn[a] < turn[b]) == (best[a] < best[b]) for a in turn for b in turn)


def test_only_a_throttled_channel_keeps_what_it_cannot_take():
    """Every other pause, and every other state than up and degraded, leaves messages to the next route."""
    assert state.keeps("up", "")
    assert state.keeps("degraded", "link 1 is down")
    for reason, ruling in state.RULINGS.items():
        assert state.keeps("paused", reason) == (reason in ("throttled", "queue_full")), ruling
    for other in ("starting", "down", "blocked", "draining", "stopped", ""):
        assert not state.keeps(other, "throttled")
