"""The line to the database is cut right after COMMIT was sent, and at other bad moments (invariants D5)."""

import asyncio
import platform
import random
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from carriers import COUNTS, FULL, drained_by_policy, often, submits
from checker import check
from journals import Client, Sink
from page import publish
from processes import Processes, prepare, two_carriers
from proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.faults, pytest.mark.timeout(0 if FULL else 60)]

SEED = 1
HOWS = ("torn", "after", "answer", "half up", "half down")
FIGURES = []


@pytest.fixture(scope="module")
async def world(server, tmp_path_factory):
    """(proxy, client, sink, carriers, database url): an API process and a worker behind the proxy."""
    name = server.clone()
    url = server.app_url.replace("/speedsms?", f"/{name}?")
    folder = tmp_path_factory.mktemp("line")
    (folder / "run").mkdir()
    parts = urlsplit(url)
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(Sink().open())
        token, _ = await prepare(url, folder, sink)
        proxy = Proxy(random.Random(SEED))
        stack.push_async_callback(proxy.stop)
        port = await proxy.start(str(Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"))
        by_proxy = f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}/{name}"
        processes = await stack.enter_async_context(Processes(folder, by_proxy).running())
        carriers = await stack.enter_async_context(two_carriers(url))
        client = Client(processes.base, token, random.Random(SEED))
        await stack.enter_async_context(client.open())
        yield proxy, client, sink, carriers, url
    if FULL and len(FIGURES) == 2 * len(HOWS):
        write_report(FIGURES)


def to_a_carrier(client, *, keyed=True):
    sent = client.make(keyed=keyed)
    sent.phones = [f"0913{len(client.sent):06d}"]
    return sent


@pytest.mark.parametrize("how", HOWS)
async def test_an_acceptance_is_cut(world, how):
    """The call is unknown or done, never half; the same key tells, executes once, and costs once (I3, I4)."""
    proxy, client, *_ = world
    times = often(200 // len(HOWS), 2)
    for _ in range(times):
        sent = to_a_carrier(client)
        cut = proxy.cut(how, sent.content.encode())
        await asyncio.gather(cut, client.insist(sent))
    await agree(world, f"acceptance: {how}", times)


@pytest.mark.parametrize("how", HOWS)
async def test_any_statement_is_cut(world, how):
    """Claims, outcomes, receipts, webhooks, leases: whatever the next statement is, nothing goes twice."""
    proxy, client, *_ = world
    times = often(200 // len(HOWS), 4)
    for _ in range(times):
        sending = [asyncio.create_task(client.insist(to_a_carrier(client))) for _ in range(5)]
        await asyncio.sleep(proxy.dice.uniform(0, 0.03))
        await proxy.cut(how)
        await asyncio.gather(*sending)
    await agree(world, f"any statement: {how}", times)


async def agree(world, fault, times):
    """Everything ends, all journals agree, and the carriers, whose links lived on, got nothing twice."""
    _, client, sink, carriers, url = world
    await drained_by_policy(url)
    figures = check(url, client.sent, sink)
    taken = Counter((s.number, s.octets) for s in submits(*carriers) if s.taken)
    twice = {number for number, n in taken.items() if n > 1}
    print(f"{fault}: {figures}")
    assert not twice, f"D5 sent twice: {twice}"
    FIGURES.append((fault, times, len(taken)))


def write_report(figures):
    """Their section of the page that a release publishes (invariants §15)."""
    publish(
        [
            "## Cut lines to the database",
            "",
            f"Measured on {datetime.now(UTC):%Y-%m-%d} by `make faults`{COUNTS}, seed {SEED}, Python",
            f"{platform.python_version()}: an API process and a worker reach PostgreSQL through a proxy that",
            "cuts, and two simulated carriers take their messages. After each row: acknowledged requests",
            "lost 0, executed twice 0, ledger difference 0 đ, sent twice 0. Messages: so far in the run.",
            "",
            "| statement and cut | times | messages |",
            "|---|---|---|",
            *(f"| {fault} | {times} | {messages} |" for fault, times, messages in figures),
        ]
    )
