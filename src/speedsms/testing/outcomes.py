"""What becomes of accepted messages: scripts are played as reports, incoming messages and webhooks."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from http.client import HTTPConnection, HTTPSConnection
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from speedsms.contract import ads, webhook
from speedsms.contract.simulation import MAGIC, SCRIPTS, Script
from speedsms.contract.webhook import Incoming, Report, Webhook
from speedsms.numbers import magic
from speedsms.testing.book import Book, Due
from speedsms.testing.records import Account, Endpoint, Message, Post, Target, e164_of, newest
from speedsms.wire import Band, Kind, Progress, band

ALL: Final = "*"
POST_S: Final = 10.0  # time-out of one webhook
_AT_ONCE: Final = timedelta(seconds=10)  # a test does not wait for a carrier: only longer delays are kept
_REJECTED: Final = 99
_TWICE: Final = 9  # the magic number whose webhooks are repeated; as a message it is an ordinary one
_FOR_GOOD: Final = 1_000  # refused attempts
_ROUNDS: Final = 100  # a webhook may cause a message, which causes a webhook
_PROGRESS: Final = {
    Band.DELIVERED: Progress.DELIVERED,
    Band.TEMPORARY: Progress.SENT,
    Band.FAILED: Progress.FAILED,
}


class _Letter(NamedTuple):
    """A webhook on its way to one endpoint."""

    account: Account
    event: Webhook
    event_id: str


class Outcomes(Book):
    """The simulated carrier and the sender of webhooks."""

    # ------------------------------------------------------------ what a test asks for

    def script(self, phone: str, outcome: str | Script, times: int | None = None) -> None:
        """What becomes of the next messages to a phone, or to `"*"`, all that have no script of their own.

        outcome: a name of `speedsms.contract.simulation.SCRIPTS` (delivered, failed, never …) or a Script.
        """
        if isinstance(outcome, str) and outcome not in SCRIPTS:
            raise ValueError(f"outcome is one of {', '.join(SCRIPTS)}")
        script = SCRIPTS[outcome] if isinstance(outcome, str) else outcome
        self.scripts[phone if phone == ALL else e164_of(phone)] = (script, times)

    def add_endpoint(
        self, target: Target, events: Sequence[str] = ("report", "sms"), secret: str | None = None
    ) -> Endpoint:
        """Send the first account's webhooks to a URL, or to a function of (body, headers).

        Its `secrets` sign them: the one given, else one that is made.
        """
        endpoint = Endpoint(
            target, (secret or webhook.secret_from(self.random.randbytes(32)),), tuple(events)
        )
        self.account.endpoints.append(endpoint)
        return endpoint

    def report(self, phone: str, status: int, *, event_id: str | None = None) -> None:
        """Report a TP-Status (0 delivered, 32 to 63 temporary, from 64 failed) on the newest message."""
        message = newest(self.messages, phone)
        if message is None:
            raise ValueError(f"nothing was sent to {phone}")
        with self.changed:
            letter = self._reported(message, status, event_id)
        self._send([letter])

    def reply(self, phone: str, content: str, *, receiver: str = "", event_id: str | None = None) -> None:
        """An SMS from a phone. receiver: our number; the sender of the newest message to it if empty."""
        with self.changed:
            message = newest(self.messages, phone)
            account = message.account if message else self.account
            letter = self._incoming(
                account, phone, content, receiver or (message.sender if message else ""), event_id
            )
        self._send([letter])

    def advance(self, seconds: float) -> None:
        """Move the clock forward and play what becomes due."""
        self.move(seconds)
        self.settle()

    def settle(self) -> None:
        """Play everything that is due by now; when it returns, the webhooks of it were answered."""
        for _ in range(_ROUNDS):
            with self.posting:
                letters = self._play()
                if letters is None:
                    return
                self._send(letters)

    # ------------------------------------------------------------ playing

    def schedule(self, message: Message) -> None:
        """Put down what becomes of a message that was just accepted, and tell those who wait for it."""
        self.changed.notify_all()
        trick = magic(message.e164)
        script = SCRIPTS[MAGIC.get(trick, "delivered")] if trick else self._script_for(message)
        self.early |= script.early
        repeats = 2 if trick == _TWICE else script.repeats
        if script.refuse and script.refused_attempts > _FOR_GOOD:
            self._put(message.due_at, message, _REJECTED)
            return
        self._put(message.due_at, message, None)
        for delay_s, status in script.receipts:
            delay = timedelta(seconds=delay_s)
            self._put(message.due_at + (delay if delay > _AT_ONCE else timedelta()), message, status, repeats)
        if script.reply:
            self._put(message.due_at, message, script.reply)

    def _script_for(self, message: Message) -> Script:
        for phone in (message.e164, ALL):
            script, times = self.scripts.get(phone, (None, 0))
            if script and times != 0:
                self.scripts[phone] = (script, times and times - 1)
                return script
        return SCRIPTS["delivered"]

    def _put(self, at: datetime, message: Message, what: int | str | None, repeats: int = 1) -> None:
        heappush(self.due, Due(at, next(self.order), message, what, repeats))

    def due_in_s(self) -> float | None:
        """Seconds until the next event, None if there is none."""
        with self.changed:
            return max(0.0, (self.due[0].at - self.now()).total_seconds()) if self.due else None

    def _play(self) -> list[_Letter] | None:
        """Take what is due into the books; the webhooks of it, or None if nothing was due."""
        letters: list[_Letter] = []
        with self.changed:
            if not self.due or self.due[0].at > self.now():
                return None
            while self.due and self.due[0].at <= self.now():
                due = heappop(self.due)
                letters += self._happened(due)
        return letters

    def _happened(self, due: Due) -> list[_Letter]:
        message, what = due.message, due.what
        if isinstance(what, str):
            return [self._incoming(message.account, message.e164, what, message.sender)]
        if message.status in (Progress.DELIVERED, Progress.FAILED):
            return []  # receipts of a finished message are absorbed
        if what is None:
            message.status = Progress.SENT
            return []
        return [self._reported(message, what)] * due.repeats

    def _reported(self, message: Message, status: int, event_id: str | None = None) -> _Letter:
        # What no carrier took, and a call that nobody answered, costs nothing (protocol §11).
        untaken = message.status is Progress.PENDING or message.kind is Kind.VOICE
        if band(status) is Band.FAILED and message.status is not Progress.FAILED and untaken:
            message.account.balance_vnd += 0 if message.test else message.price_vnd
        message.status = _PROGRESS[band(status)]
        message.sequence += 1
        code = status if band(status) is not Band.DELIVERED else 0
        form, reference = message.account.phone_form, message.reference
        report = Report(message.tran_id, message.entry, message.e164, code, form, message.sequence, reference)
        return _Letter(message.account, report, event_id or self._event_id())

    def _incoming(
        self, account: Account, phone: str, content: str, receiver: str, event_id: str | None = None
    ) -> _Letter:
        if ads.opts_out(content):
            account.suppressed.add(e164_of(phone))
        incoming = Incoming(e164_of(phone), receiver, content, account.phone_form)
        return _Letter(account, incoming, event_id or self._event_id())

    def _event_id(self) -> str:
        return webhook.event_name(UUID(bytes=self.random.randbytes(16)))

    # ------------------------------------------------------------ webhooks

    def _send(self, letters: Sequence[_Letter]) -> None:
        """One attempt each: repeating is what the receiver's tests ask for by themselves."""
        with self.posting:
            for letter in letters:
                kind = "report" if isinstance(letter.event, Report) else "sms"
                for endpoint in letter.account.endpoints:
                    if kind in endpoint.events:
                        self.posts.append(self._post(endpoint, letter))

    def _post(self, endpoint: Endpoint, letter: _Letter) -> Post:
        body = letter.event.body
        headers = webhook.headers(
            letter.event,
            body,
            event=letter.event_id,
            timestamp=int(self.now().timestamp()),
            secrets=endpoint.secrets,
            legacy_secret=endpoint.legacy_secret,
            agent="speedsms/fake",
        )
        try:
            status = _deliver(endpoint.target, body, headers)
        except Exception as error:  # noqa: BLE001 - keeps the fake alive: what a receiver raises is its test's
            return Post(endpoint.target, body, headers, 0, repr(error))
        return Post(endpoint.target, body, headers, status)


def _deliver(target: Target, body: bytes, headers: dict[str, str]) -> int:
    """The status of the receiver's answer; 200 for a function that returns. Redirects are not followed."""
    if not isinstance(target, str):
        target(body, headers)
        return 200
    url = urlsplit(target)
    connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = connect(url.netloc, timeout=POST_S)
    try:
        connection.request("POST", (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
