"""Prints submit_sm/s of the SMPP codec and of both ends of a session, in one process, without sockets."""

import time
from collections.abc import Callable

from speedsms.gateway.channels.smpp.pdu import (
    Address,
    Bind,
    BindResp,
    Command,
    SubmitSm,
    SubmitSmResp,
    decode,
    encode,
)
from speedsms.gateway.channels.smpp.session import Role, Session

COUNT, WINDOW = 200_000, 100
TEXT = b"Your code is 123456. It is valid for 5 minutes; do not share it."


def message(number: int) -> SubmitSm:
    return SubmitSm(
        source=Address(5, 0, "SPEEDSMS"),
        destination=Address(1, 1, str(84_900_000_000 + number)),
        validity_period="000000000500000R",
        registered_delivery=1,
        short_message=TEXT,
    )


def bound() -> tuple[Session, Session]:
    esme, smsc = Session(Role.ESME), Session(Role.SMSC)
    esme.bind(Bind("transceiver", "me", "secret"), 0.0)
    (asked,) = smsc.receive(esme.take(), 0.0)
    smsc.answer(asked.sequence, BindResp("transceiver"), Command.BIND_TRANSCEIVER_RESP)
    esme.receive(smsc.take(), 0.0)
    return esme, smsc


def conversation() -> None:
    """Windows full of submit_sm, each answered and its answer read."""
    esme, smsc = bound()
    for first in range(0, COUNT, WINDOW):
        now = float(first)
        for number in range(first, first + WINDOW):
            esme.request(message(number), number, now)
        for event in smsc.receive(esme.take(), now):
            smsc.answer(event.sequence, SubmitSmResp(str(event.sequence)), Command.SUBMIT_SM_RESP)
        for event in esme.receive(smsc.take(), now):
            assert event.status == 0
    assert esme.open == 0


def measure(name: str, run: Callable[[], object]) -> None:
    start = time.perf_counter()
    run()
    print(f"{name:<28}{COUNT / (time.perf_counter() - start):>12,.0f} submit_sm/s")


def main() -> None:
    octets = [encode(message(number), number) for number in range(COUNT)]
    measure("encode", lambda: [encode(message(number), number) for number in range(COUNT)])
    measure("decode", lambda: [decode(pdu) for pdu in octets])
    measure("session, both ends", conversation)


if __name__ == "__main__":
    main()
