"""The life of messages at the simulated carrier: taken, answered, reported, queried, cancelled."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from speedsms.gateway.channels.smpp.pdu import (
    RESPONSE,
    CancelSm,
    Command,
    DataSm,
    DataSmResp,
    QuerySm,
    QuerySmResp,
    Status,
    SubmitSm,
    SubmitSmResp,
    Tag,
    encode,
    encode_bare,
    status_name,
)
from speedsms.gateway.channels.smpp.smsc.carrier import Carrier, spelt
from speedsms.gateway.channels.smpp.smsc.connection import Connection
from speedsms.gateway.channels.smpp.smsc.pushing import ANYBODY, Delivery
from speedsms.gateway.channels.smpp.smsc.script import Play, Receipt, Speech
from speedsms.gateway.channels.smpp.smsc.speech import Taken, asked_for, receipt_pdu, reply

_PLAIN: Final = frozenset({0, 1, 3})  # data_coding of texts that a receipt can repeat
_GATHER_S: Final = 0.2
_OTHER_SEQUENCE: Final = 0x40000000
_ENROUTE: Final = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is to be given. message_id: as the script spells it."""

    connection: Connection
    sequence: int
    command: int
    status: int
    play: Play
    message_id: str


class Messages:
    """later(seconds, call, arguments), now (seconds since 1970), push and say are the server's.

    statuses: of responses, by name; top_rate: the most submits in any second.
    """

    def __init__(
        self,
        carrier: Carrier,
        counts: Counter[str],
        *,
        later: Callable[..., None],
        now: Callable[[], float],
        push: Callable[[Delivery], None],
        say: Callable[[Speech, str], int],
    ) -> None:
        self.statuses: Counter[str] = Counter()
        self.top_rate = 0
        self._carrier = carrier
        self._counts = counts
        self._later = later
        self._now = now
        self._push = push
        self._say = say
        self._open: dict[str, Taken] = {}  # those that wait for their final receipt, by message id
        self._gathered: list[Answer] = []
        self._second: deque[float] = deque()

    def submitted(self, connection: Connection, sequence: int, command: int, pdu: SubmitSm | DataSm) -> None:
        connection.opened += 1
        now = self._now()
        self._measure(now)
        status, play = self._carrier.submit(pdu.destination.digits, connection.opened, now)
        self.statuses[status_name(status)] += 1
        delay_s = self._carrier.draw(play.delay_s)
        if status:
            answer = Answer(connection, sequence, command, status, play, "")
            self._later(delay_s, self._answer, answer)
            return
        taken = self._taken(connection, pdu, play, now)
        answer = Answer(connection, sequence, command, 0, play, spelt(taken.number, play.id_form))
        coming = [
            (self._carrier.draw(receipt.after_s), receipt)
            for receipt in play.receipts
            if asked_for(receipt, taken.registered)
        ]
        # A receipt before the response holds the response back if need be.
        delay_s = max([delay_s, *(-after_s for after_s, _ in coming)])
        if any(receipt.final for _, receipt in coming):
            self._open[answer.message_id] = taken
        else:
            self._end(taken, "ended")
        for after_s, receipt in coming:
            if after_s < 0:
                self._later(delay_s + after_s, self._report, taken, receipt)
        self._later(delay_s, self._answer, answer)
        for after_s, receipt in coming:
            if after_s >= 0:
                self._later(delay_s + after_s, self._report, taken, receipt)
        if play.reply:
            self._later(delay_s + play.reply_s, self._say, reply(taken), taken.system_id)

    def queried(self, pdu: QuerySm) -> tuple[QuerySmResp | None, int]:
        """query_sm_resp and its status: only messages on their way are known."""
        if pdu.message_id not in self._open:
            return None, Status.RQUERYFAIL
        return QuerySmResp(message_id=pdu.message_id, message_state=_ENROUTE), 0

    def cancelled(self, pdu: CancelSm) -> int:
        """The status of cancel_sm_resp; the receipt of a cancelled message says so."""
        taken = self._open.get(pdu.message_id)
        if taken is None:
            return Status.RCANCELFAIL
        deleted = Receipt(state="DELETED")
        if asked_for(deleted, taken.registered):
            self._report(taken, deleted)
        self._end(taken, "cancelled")
        return 0

    def _taken(self, connection: Connection, pdu: SubmitSm | DataSm, play: Play, now: float) -> Taken:
        octets = pdu.short_message if isinstance(pdu, SubmitSm) else pdu.tlvs.get(Tag.MESSAGE_PAYLOAD, b"")
        plain = pdu.data_coding in _PLAIN and not pdu.esm_class & 0x40
        return Taken(
            number=self._carrier.next_id(),
            play=play,
            source=pdu.source,
            destination=pdu.destination,
            registered=pdu.registered_delivery,
            text=octets[:20].decode("latin-1").replace("\0", "@") if plain else "",
            submitted_at=now,
            connection=connection.number,
            system_id=connection.bind.system_id if connection.bind else ANYBODY,
        )

    def _answer(self, answer: Answer) -> None:
        wanted = answer.play.shuffle
        if not wanted:
            self._respond(answer)
            return
        self._gathered.append(answer)
        if len(self._gathered) >= wanted:
            self._scatter()
        else:
            self._later(_GATHER_S, self._scatter)

    def _scatter(self) -> None:
        self._carrier.shuffle(self._gathered)
        for answer in self._gathered:
            self._respond(answer)
        self._gathered.clear()

    def _respond(self, answer: Answer) -> None:
        connection, play = answer.connection, answer.play
        connection.opened -= 1
        for under in play.answers:
            match under:
                case "own":
                    connection.raw(_response(answer, answer.sequence))
                case "unknown":
                    connection.raw(_response(answer, answer.sequence ^ _OTHER_SEQUENCE))
                case "zero":
                    connection.raw(_response(answer, 0))
                case "nack":
                    status = answer.status or Status.RUNKNOWNERR
                    connection.raw(encode_bare(Command.GENERIC_NACK, answer.sequence, status))
        if connection.leaving and not connection.opened:
            connection.leave()
        connection.end(play.then)

    def _report(self, taken: Taken, receipt: Receipt) -> None:
        if taken.life == "cancelled":
            return
        if receipt.final and taken.life == "open":
            self._end(taken, "ended")
        pdu = receipt_pdu(receipt, taken, self._now())
        for _ in range(receipt.times):
            self._push(Delivery("receipts", pdu, taken.system_id, receipt.bind, taken.connection))

    def _end(self, taken: Taken, life: Literal["ended", "cancelled"]) -> None:
        if taken.life == "open":
            self._carrier.ended(taken.destination.digits)
        taken.life = life
        message_id = spelt(taken.number, taken.play.id_form)
        if self._open.get(message_id) is taken:  # another message may have got the same id since
            del self._open[message_id]

    def _measure(self, now: float) -> None:
        self._counts["submits"] += 1
        self._second.append(now)
        while now - self._second[0] >= 1:
            self._second.popleft()
        self.top_rate = max(self.top_rate, len(self._second))


def _response(answer: Answer, sequence: int) -> bytes:
    """A refusal is a header only, as the standard has it, unless it must carry a TLV."""
    tlvs: dict[int, bytes] = {}
    if answer.play.congestion is not None:
        tlvs[Tag.CONGESTION_STATE] = bytes([answer.play.congestion])
    if answer.status and not tlvs:
        return encode_bare(answer.command | RESPONSE, sequence, answer.status)
    shape: Any = DataSmResp if answer.command == Command.DATA_SM else SubmitSmResp
    return encode(shape(answer.message_id, tlvs), sequence, answer.status)
