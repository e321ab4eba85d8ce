"""Figures of several processes in one reply."""

import pytest

from speedsms.gateway.metrics import Metrics, gather, merged

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("depth", [1, 12])
async def test_one_reply_holds_all_processes(tmp_path, depth):
    """Each series says which process counted it, however long the path of the data directory is."""
    tmp_path = tmp_path.joinpath(*["a-long-name"] * depth)
    api, worker = Metrics(), Metrics()
    servers = [await api.serve(tmp_path, "api"), await worker.serve(tmp_path, "worker")]
    api.accepted(3, 5)
    api.http("sms/send", 200, 0.002)
    worker.webhook("delivered", 0.1)
    worker.outcome("sim", "accepted", 2)
    text = (await gather(tmp_path)).decode()
    for server in servers:
        server.close()
    assert 'speedsms_accepted_messages_total{process="api"} 3.0' in text
    assert 'speedsms_http_seconds_count{endpoint="sms/send",process="api",status="200"} 1.0' in text
    assert 'speedsms_outcomes_total{channel="sim",outcome="accepted",process="worker"} 2.0' in text
    assert text.count("# TYPE speedsms_accepted_messages_total") == 1


async def test_a_dead_process_is_left_out(tmp_path):
    """A socket that nobody answers costs its own figures, not the reply."""
    living, dead = Metrics(), Metrics()
    server = await living.serve(tmp_path, "living")
    (await dead.serve(tmp_path, "dead")).close()
    text = (await gather(tmp_path)).decode()
    server.close()
    assert 'process="living"' in text
    assert 'process="dead"' not in text


async def test_every_figure_can_be_counted():
    """Each method leads to a series, with bounded labels only."""
    m = Metrics()
    m.refused("101", "missing_to")
    m.commit("accept", 7, 0.01)
    m.dispatched("sim", 3)
    m.channel("viettel", {"refused.throttled": 4}, "paused", up=False)
    m.receipt("parked")
    text = merged({"one": "\n".join([_text(m)])}).decode()
    for name in ("refused_requests_total", "commit_rows_count", "commit_seconds_count", "channel_events"):
        assert f"speedsms_{name}{{" in text
    for name in ("dispatched_messages_total", "receipts_total", "channel_up"):
        assert f"speedsms_{name}{{" in text
    assert (
        'speedsms_channel_state{channel="viettel",process="one",speedsms_channel_state="paused"} 1.0' in text
    )
    assert "_created" not in text


def _text(metrics):
    from prometheus_client import generate_latest

    return generate_latest(metrics.registry).decode()
