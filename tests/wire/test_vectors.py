"""The golden vectors over real HTTP: request → reply and stored effects (vectors/README.md)."""

import asyncio
import base64
import json
import re
from contextlib import suppress
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

_VARIABLE = re.compile(r"\$\{([a-z]+)(~wrong)?\}")


class Answer:
    """One reply, as bytes on the wire."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.fields = [tuple(line.split(": ", 1)) for line in lines]
        self.headers = {name.lower(): text for name, text in self.fields}


def filled(value: Any, known: dict[str, Any]) -> Any:
    """Put kept values in the place of ${x}; a string that is nothing else takes the value's type."""

    def kept(found: re.Match[str]) -> str:
        text = str(known[found[1]])
        return text[:-1] + str((int(text[-1]) + 1) % 10) if found[2] else text

    if isinstance(value, str):
        whole = _VARIABLE.fullmatch(value)
        return known[whole[1]] if whole and not whole[2] else _VARIABLE.sub(kept, value)
    if isinstance(value, dict):
        return {key: filled(item, known) for key, item in value.items()}
    return [filled(item, known) for item in value] if isinstance(value, list) else value


def wire_bytes(request: dict[str, Any], known: dict[str, Any]) -> bytes:
    """The request, byte for byte; only Host, Connection and Content-Length are added."""
    body = b""
    if "body" in request:
        body = str(filled(request["body"], known)).encode()
    elif "body_base64" in request:
        body = base64.b64decode(request["body_base64"])
    elif part := request.get("body_repeat"):
        body = (part["before"] + part["unit"] * part["times"] + part["after"]).encode()
    lines = [
        f"{request['method']} {filled(request['path'], known)} HTTP/1.1",
        "Host: gateway",
        "Connection: close",
    ]
    lines += [f"{name}: {text}" for name, text in request["headers"]]
    if body or request["method"] in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def ask(port: int, raw: bytes) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        return Answer(await reader.read())
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def compare(found: Any, wanted: Any, known: dict[str, Any], where: str) -> None:
    """Same types, same keys in the same order, no others; matchers stand for what cannot be known."""
    if isinstance(wanted, dict) and "$match" in wanted:
        rule = wanted["$match"]
        if rule == "tranId":
            assert type(found) is int, where
            assert 1 <= found <= 2_147_483_647, where
        elif rule != "any":
            assert re.search(rule.removeprefix("re:"), found), f"{where}: {found}"
        if "$as" in wanted:
            known[wanted["$as"]] = found
        return
    assert type(found) is type(wanted), f"{where}: {found!r} instead of {wanted!r}"
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for key, item in wanted.items():
            compare(found[key], item, known, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), f"{where}: {found!r}"
        for n, (one, other) in enumerate(zip(found, wanted, strict=True)):
            compare(one, other, known, f"{where}[{n}]")
    else:
        assert found == wanted, where


def check_reply(answer: Answer, expect: dict[str, Any], known: dict[str, Any], earlier: list[Answer]) -> None:
    """One reply against the rules of the table in vectors/README.md."""
    assert answer.status == expect["status"], (answer.status, answer.headers, answer.body)
    for name, wanted in expect.get("headers", {}).items():
        assert name in answer.headers, f"{name} is missing: {answer.headers}"
        compare(answer.headers[name], filled(wanted, known), known, name)
    for name in expect.get("headers_absent", ()):
        assert name not in answer.headers, name
    assert len(answer.headers) == len(answer.fields), "a header stands twice"
    if "json" in expect:
        found = json.loads(answer.body)
        assert answer.body == json.dumps(found, separators=(",", ":")).encode(), "compact ASCII (§1.3)"
        compare(found, filled(expect["json"], known), known, "$")
    if "text" in expect:
        assert answer.body.decode() == filled(expect["text"], known)
    if "raw_contains" in expect:
        assert expect["raw_contains"] in answer.body.decode()
    if "same_body_as_step" in expect:
        assert answer.body == earlier[expect["same_body_as_step"] - 1].body
    if expect.get("no_body"):
        assert answer.body == b""


def check_effects(
    world: Any, account: str, effects: dict[str, Any], known: dict[str, Any], start: Any
) -> None:
    """What is stored after the case."""
    stored = world.stored(account, start)
    after_vnd = world.balance_vnd(account)
    debit_vnd = start[0] - after_vnd
    if effects.get("unknown"):
        assert debit_vnd == sum(row["price_vnd"] for row in stored)
        return
    assert len(stored) == effects["messages"], stored
    assert sum(row["parts"] for row in stored) == effects["parts"]
    assert debit_vnd == effects["debit_vnd"]
    assert after_vnd == effects.get("balance_after_vnd", after_vnd)
    for wanted in effects.get("stored", ()):
        assert any(fits(one, wanted, known) for one in stored), (wanted, stored)


def fits(stored: dict[str, Any], wanted: dict[str, Any], known: dict[str, Any]) -> bool:
    try:
        compare({key: stored[key] for key in wanted}, filled(wanted, known), known, "stored")
    except AssertionError:
        return False
    return True


async def run(case: dict[str, Any], world: Any) -> None:
    """One case on one side: the gateway's or the fake's."""
    given = case["preconditions"]
    known: dict[str, Any] = {}
    answers: list[Answer] = []
    start = world.begin(given)
    busy = [wire_bytes(running["request"], known) for running in given.get("in_flight", ())]
    async with world.fault(given.get("fault")), world.held_up(given["account"], busy):
        for step in case["steps"]:
            world.advance(step.get("advance_s", 0))
            world.client_ip = step.get("client_ip", world.client_ip)
            for _ in range(step.get("repeat", 1)):
                answer = await ask(world.port, wire_bytes(step["request"], known))
                check_reply(answer, step["expect"], known, answers)
            answers.append(answer)
        check_effects(world, given["account"], case["effects"], known, start)


async def test_vector(case, world):
    """Each golden case answers and stores exactly what the contract says."""
    await run(case, world)


async def test_vector_on_the_fake(case, fake_world):
    """The fake of the test kit answers and stores the same, on every endpoint."""
    await run(case, fake_world)
