"""What the connections of one channel share: pace, sink, counts, and what the carrier's answers mean."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from msgspec.structs import replace

from speedsms.gateway.channels.base import (
    Outcome,
    Outgoing,
    Reason,
    Refused,
    Report,
    Sink,
    Surroundings,
    Unknown,
)
from speedsms.gateway.channels.smpp import ids, incoming, outcome, receipt
from speedsms.gateway.channels.smpp.attempt import Lone, Part
from speedsms.gateway.channels.smpp.pdu import DataSm, DeliverSm, Frame, SubmitSmResp, Tag
from speedsms.gateway.channels.smpp.settings import Settings, statuses
from speedsms.gateway.channels.smpp.usual import UsualReceipt
from speedsms.gateway.rules.alphabet import Name
from speedsms.gateway.rules.pace import Pace

_ALARM_S: Final = 900.0  # one alarm per cause (channels §1.7)
_FULL_WAITS_S: Final = (5.0, 15.0, 30.0)  # a message whose number's queue is full (SM-21)
_CONGESTED: Final = 80  # of 100 in congestion_state; above it we go at half the rate (§3.3)
_SLOW_S: Final = 5.0
_LEARNED: Final = 20
_RAW_OCTETS: Final = 4096


class Traffic:
    """One channel's dealings with its carrier, whatever connection they take.

    give_back: ends all parts that wait for their turn, with a refusal. trace: sees each whole PDU, "sent" or
    "received".
    """

    def __init__(
        self, name: str, settings: Settings, around: Surroundings, give_back: Callable[[Refused], None]
    ) -> None:
        self.settings = settings
        self.around = around
        self.counts: Counter[str] = Counter()
        self.pace = Pace(0.0)
        self.sink: Sink | None = None
        self.trace: Callable[[str, bytes], None] | None = None
        self._give_back = give_back
        self._log: Any = structlog.get_logger().bind(action="channel", channel=name)
        self._rate = 0.0
        self._congested = False
        self._alarms: dict[tuple[str, str], float] = {}
        self._full_number = ""  # to which the last answer was "queue full"
        self._status_map = statuses(settings)
        self._rules = receipt.ReceiptRules(
            id_form=settings.id_form,
            acceptd_final=settings.acceptd_final,
            unknown_state=settings.unknown_state,
            err_map=settings.err_map,
            receipt_tz=ZoneInfo(settings.receipt_tz),
            sniff_receipts=settings.sniff_receipts,
            alphabet=self._alphabet(),
        )
        self._whole = settings.receipt_per == "message" or settings.concat == "payload"
        self._took_s: deque[float] = deque(maxlen=100)
        self._doubts: deque[bool] = deque(maxlen=200)
        self._strays: deque[bool] = deque(maxlen=200)
        self._learned = self._last_rule = ""
        self._same_rule = 0

    def _alphabet(self) -> Name:
        packed = self.settings.alphabet == "gsm7" and self.settings.gsm_packing == "packed"
        return "gsm7_packed" if packed else self.settings.alphabet

    def go_at(self, rate: float, *, rest: bool) -> None:
        """The share of the channel's rate that is ours now; 0 is no limit.

        rest: a second without parts comes first, so that none holds parts of both shares (CH-9).
        """
        self._rate = rate
        self.pace = Pace(rate)
        if rest:
            self.pace.take(max(1, int(rate)), monotonic())
        self._congested = False

    def alarm(self, event: str, cause: str, **facts: Any) -> None:
        """A line for a person, one per event and cause in 15 minutes."""
        now = asyncio.get_running_loop().time()
        if now - self._alarms.get((event, cause), -_ALARM_S) >= _ALARM_S:
            self._alarms[event, cause] = now
            self._log.error(event, cause=cause, **facts)

    def note(self, event: str, **facts: Any) -> None:
        self._log.info(event, **facts)

    def settle(self, message: int, attempt: int, part: int, result: Outcome) -> None:
        assert self.sink  # noqa: S101 - what is not started gets no work
        self.sink.settle(message, attempt, part, result)

    # ----------------------------------------------------------------------------------- answers

    def answered(self, part: Part | Lone, status: int, frame: Frame, now: float) -> None:
        """The carrier's answer to a part, also a late one."""
        self._took_s.append(now - part.sent_at)
        self._doubts.append(False)
        if status:
            self._refused(part, status)
            return
        self._full_number = ""
        self.counts["accepted"] += 1
        pdu = frame.pdu
        reference = ""
        if isinstance(pdu, SubmitSmResp):
            reference = pdu.message_id
            if pdu.tlvs or self._congested:
                self._congestion(pdu.tlvs.get(Tag.CONGESTION_STATE, b"\0"))
        if not reference:
            self.counts["accepted_without_id"] += 1
        part.accepted(reference, ids.filed(reference, self.settings.id_form))

    def unanswered(self, part: Part | Lone, unknown: Unknown) -> None:
        self._doubts.append(True)
        self.counts["unknown"] += 1
        part.unanswered(unknown)

    def _refused(self, part: Part | Lone, status: int) -> None:
        refusal = outcome.refusal(status, self._status_map)
        if refusal.reason is Reason.QUEUE_FULL:
            refusal = self._queue_full(refusal, part.out)
        else:
            self._full_number = ""
        self.counts[f"refused.{refusal.reason}"] += 1
        self.counts[f"status.0x{status:08x}"] += 1
        if status in outcome.ALARMS:
            self.alarm("the carrier refuses our settings", f"0x{status:02x} {outcome.words(status)}")
        part.refused(refusal)
        if refusal.reason in (Reason.THROTTLED, Reason.QUEUE_FULL) and not refusal.single:
            # What waits here would meet the same refusal; in the database it keeps its place (SM-21).
            self._give_back(Refused(refusal.reason, "behind a refused one"))

    def _queue_full(self, refusal: Refused, out: Outgoing) -> Refused:
        """Of one number: only that message waits. Of two in a row: it is the carrier's own queue (SM-21)."""
        another = self._full_number not in ("", out.to)
        self._full_number = out.to
        if another:
            return refusal
        wait_s = _FULL_WAITS_S[min(out.attempt, len(_FULL_WAITS_S)) - 1]
        return replace(refusal, single=True, retry_after_s=wait_s)

    def _congestion(self, state: bytes) -> None:
        congested = int.from_bytes(state) > _CONGESTED
        if congested != self._congested:
            self._congested = congested
            self.pace.rate = self._rate / 2 if congested else self._rate
            self.note("congestion", congested=congested)

    def matched(self, reference: str, key: str) -> None:
        """Which form of id led to the part: the same twenty times in a row counts as learned (§3.11)."""
        if self.settings.id_form != "auto":
            return
        rule = ids.rule_name(reference, key, "auto")
        if not rule:
            return
        self._same_rule = self._same_rule + 1 if rule == self._last_rule else 1
        self._last_rule = rule
        if self._same_rule >= _LEARNED and rule != self._learned:
            if self._learned:
                self.alarm("the carrier changed the form of its ids", f"{self._learned} to {rule}")
            self._learned = rule

    def reported(self, matched: int, strays: int) -> None:
        self.counts["reports_matched"] += matched
        self.counts["reports_unmatched"] += strays
        self._strays.extend([False] * matched + [True] * strays)

    def figures(self) -> dict[str, object]:
        took_s = sorted(self._took_s)
        learned: dict[str, object] = {"id_form": self._learned} if self._learned else {}
        return learned | ({"round_trip_s": round(took_s[len(took_s) // 2], 4)} if took_s else {})

    def trouble(self) -> str:
        """Why an open channel is degraded, "" if it is not (channels §1.7)."""
        if len(self._took_s) == 100 and sorted(self._took_s)[94] > _SLOW_S:
            return "answers take more than 5 s"
        if len(self._doubts) == 200 and sum(self._doubts) > 2:
            return "more than 1 % of the parts get no answer"
        if len(self._strays) == 200 and sum(self._strays) > 10:
            return "more than 5 % of the receipts match no message"
        return ""

    # ----------------------------------------------------------------------------------- inbound

    def inbound(self, pdu: DeliverSm | DataSm | UsualReceipt, now: datetime) -> asyncio.Future[None]:
        """Store a receipt or a message from a phone; ends after the commit."""
        assert self.sink  # noqa: S101 - what is not started gets no connection
        if isinstance(pdu, UsualReceipt):
            return self._report(self.sink, receipt.of_usual(pdu, self._rules, now), pdu.body, now)
        if said := receipt.parse(pdu, self._rules, now):
            return self._report(self.sink, said, incoming.body_of(pdu)[:_RAW_OCTETS], now)
        return self._incoming(self.sink, pdu, now)

    def _report(self, sink: Sink, said: receipt.Receipt, raw: bytes, now: datetime) -> asyncio.Future[None]:
        self.counts["reports_parsed" if said.parsed else "reports_unparsed"] += 1
        if said.differs:
            self.counts["reports_contradicting"] += 1
        return sink.report(
            Report(
                reference=said.reference,
                status=said.status,
                received_at=now,
                cause=said.cause,
                peer_time=said.peer_time,
                raw=raw,
                keys=said.keys,
                number=said.number,
                whole=self._whole,
            )
        )

    def _incoming(self, sink: Sink, pdu: DeliverSm | DataSm, now: datetime) -> asyncio.Future[None]:
        read = incoming.read(pdu, self._rules.alphabet, now)
        self.counts["incoming"] += 1
        for oddity in read.oddities:
            self.counts[f"oddity.{oddity}"] += 1
        return sink.incoming(read.incoming)
