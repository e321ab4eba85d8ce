"""SpeedSMS and AsyncSpeedSMS: two thin drivers over the generators of `_calls`, one connection pool each."""

import asyncio
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event
from types import TracebackType
from typing import Final, Self, TypeVar, cast

import httpx2

from speedsms import _calls, many
from speedsms._calls import Call, Entry, Moment, Send
from speedsms._http import Client, failure, keep, response
from speedsms._replies import Failure, Response
from speedsms.many import Outcome
from speedsms.numbers import Number
from speedsms.results import Account, NumberStatus, PinCheck, PinSent, Sent, Totals
from speedsms.wire import SmsType

T = TypeVar("T")

_GRACE_S: Final = 0.25  # the transport's own time-outs come first: they know whether anything was sent


class SpeedSMS(Client):
    """A client for programs without an event loop; threads may share it. A context manager, or to be closed.

    `token`, `base_url`: given here, else SPEEDSMS_TOKEN and SPEEDSMS_BASE_URL, else the `profile`.
    `timeout_s`: of a whole call with its repeats; `connect_timeout_s`: of each connection.
    `retries`: repeats of a call, made only if they cannot send twice.
    `honours_keys`: whether the service knows `Idempotency-Key`; None learns it from `X-Speedsms-Contract`.
    `ca_file`: authorities to trust instead of the system's; there is no way to trust everybody.
    `language`: of hints, `en` or `vi`. `allow_http`: plain http to a public host.
    `on_exchange`: is shown each request and its reply, without token, content and numbers.
    `transport`: of httpx2, for proxies and tests.

    Every call raises the errors of `speedsms.errors`; TypeError if an argument is of a wrong type.
    """

    _http: httpx2.Client
    _process: int

    def _open(self) -> None:
        self._http, self._process = httpx2.Client(**self._options), os.getpid()
        weakref.finalize(self, self._http.close)  # a script of three lines closes nothing

    def account(self, *, timeout_s: float | None = None) -> Account:
        """E-mail and balance (protocol §5.1)."""
        return self._run(_calls.account(self._peer, timeout_s))

    def send(
        self,
        to: Entry | Iterable[Entry],
        content: str,
        *,
        type: SmsType | int = SmsType.RANDOM_NUMBER,  # noqa: A002  the name it has on the wire
        sender: str | Number = "",
        send_at: Moment | None = None,
        validity_s: int | None = None,
        reference: str | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Sent:
        """Send one text to 1 to 100 numbers (protocol §5.2, §8).

        `to`: strings in any spelling, ints, Numbers, or what has `as_e164`. `type` and `sender`: see
        `SmsType`. `send_at`: an aware datetime, Unix seconds or RFC 3339, up to 30 days ahead.
        `validity_s`: 30 to 259,200 seconds to deliver in. `reference`: returned with each report. `key`: one
        of your own, to be able to repeat this very call later; else it is fresh. Raises Rejected if nothing
        was sent, OutcomeUnknown if that cannot be told.
        """
        return self._run(
            _calls.send(
                self._peer,
                to,
                content,
                sms_type=type,
                sender=sender,
                send_at=send_at,
                validity_s=validity_s,
                reference=reference,
                key=key,
                timeout_s=timeout_s,
            )
        )

    def send_many(
        self,
        to: Iterable[Entry],
        content: str,
        *,
        type: SmsType | int = SmsType.RANDOM_NUMBER,  # noqa: A002  the name it has on the wire
        sender: str | Number = "",
        validity_s: int | None = None,
        reference: str | None = None,
        concurrency: int = 4,
        journal: str | os.PathLike[str] | None = None,
        progress: Callable[[Totals], None] | None = None,
    ) -> Iterator[Outcome]:
        """Send one text to any number of numbers, each at most once; an Outcome for each entry, in order.

        Sending goes on while the outcomes are read, at most `concurrency` calls of 100 entries at a time, and
        stops when they are not read any more. A refusal that stands for all ends it. `journal`: a file; the
        same call with it takes up where an earlier one was cut off. `progress`: is shown the Totals after
        each call. Raises JournalError if the journal is of another run; other errors are in outcomes.
        """
        options = {"sms_type": type, "sender": sender, "validity_s": validity_s, "reference": reference}
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="speedsms")
        run = many.Run.begin(self._peer, content, options, journal)
        tally, stop, running = many.Tally(time.monotonic()), Event(), deque[Future[many.Part]]()
        calls = map(run.part, many.chunks(to))
        try:
            running.extend(pool.submit(self._run, call, stop) for call in islice(calls, 2 * concurrency))
            while running:
                part = running.popleft().result()
                running.extend(pool.submit(self._run, call, stop) for call in islice(calls, 1))
                totals = tally.add(part, time.monotonic())
                if progress:
                    progress(totals)
                yield from part.outcomes
        finally:  # what is under way is waited for, so that the journal knows what became of it
            stop.set()
            pool.shutdown(cancel_futures=True)
            run.journal.close()

    def voice(
        self,
        to: Entry,
        content: str,
        *,
        send_at: Moment | None = None,
        validity_s: int | None = None,
        reference: str | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Sent:
        """Read a code of 4 to 10 digits aloud to one number (protocol §5.3). Options as of `send`."""
        return self._run(
            _calls.voice(
                self._peer,
                to,
                content,
                send_at=send_at,
                validity_s=validity_s,
                reference=reference,
                key=key,
                timeout_s=timeout_s,
            )
        )

    def create_pin(
        self, to: Entry, content: str, *, app_id: str, key: str | None = None, timeout_s: float | None = None
    ) -> PinSent:
        """Send a PIN in the place of `{pin_code}`, or the same one again (protocol §5.4, §13)."""
        return self._run(
            _calls.create_pin(self._peer, to, content, app_id=app_id, key=key, timeout_s=timeout_s)
        )

    def verify_pin(
        self, phone: Entry, pin_code: str, *, app_id: str, timeout_s: float | None = None
    ) -> PinCheck:
        """Check a PIN; the result is true only if it was right (protocol §5.5).

        Raises OutcomeUnknown if the reply is lost: a repeat would cost another of the few checks.
        """
        return self._run(_calls.verify_pin(self._peer, phone, pin_code, app_id=app_id, timeout_s=timeout_s))

    def status(self, tran_id: int, *, timeout_s: float | None = None) -> list[NumberStatus]:
        """How far each number of a request is, in order of acceptance (protocol §5.6)."""
        return self._run(_calls.status(self._peer, tran_id, self._peer.budget(timeout_s)))

    def wait(self, tran_id: int, *, within_s: float = 60.0) -> list[NumberStatus]:
        """Ask until all numbers are delivered or failed. Raises NotYetFinal, a TimeoutError."""
        return self._run(_calls.wait(self._peer, tran_id, within_s))

    def send_mms(
        self,
        to: Entry | Iterable[Entry],
        content: str,
        link: str,
        *,
        sender: str,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Sent:
        """Send a text with a media link through an Android device, the sender (protocol §5.7)."""
        return self._run(
            _calls.send_mms(self._peer, to, content, link, sender=sender, key=key, timeout_s=timeout_s)
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _run(self, call: Call[T], stop: Event | None = None) -> T:
        answer: Response | Failure | None = None
        while True:
            try:
                step = call.send(answer)
            except StopIteration as done:
                return cast("T", done.value)
            answer = None
            if isinstance(step, Send):
                answer = self._answer(step)
            elif stop is None:
                time.sleep(step.delay_s)
            elif stop.wait(step.delay_s):
                raise InterruptedError

    def _answer(self, step: Send) -> Response | Failure:
        if self._process != os.getpid():  # a forked worker must not read its parent's replies
            self._open()
        began, body = time.monotonic(), bytearray()
        try:
            with self._http.stream(**self._asked(step)) as reply:
                for chunk in reply.iter_bytes():
                    keep(body, chunk, began + step.timeout_s)
                return response(reply, body, began)
        except httpx2.RequestError as error:
            return failure(error, began)


class AsyncSpeedSMS(Client):
    """The same for asyncio: the methods of `SpeedSMS`, awaited. One event loop per client.

    Cancelling a call closes its connection; a send that was under way may have been accepted, so who wants to
    repeat it passes a `key`.
    """

    _http: httpx2.AsyncClient

    def _open(self) -> None:
        self._http = httpx2.AsyncClient(**self._options)

    async def account(self, *, timeout_s: float | None = None) -> Account:
        """As `SpeedSMS.account`."""
        return await self._run(_calls.account(self._peer, timeout_s))

    async def send(
        self,
        to: Entry | Iterable[Entry],
        content: str,
        *,
        type: SmsType | int = SmsType.RANDOM_NUMBER,  # noqa: A002  the name it has on the wire
        sender: str | Number = "",
        send_at: Moment | None = None,
        validity_s: int | None = None,
        reference: str | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Sent:
        """As `SpeedSMS.send`."""
        return await self._run(
            _calls.send(
                self._peer,
                to,
                content,
                sms_type=type,
                sender=sender,
                send_at=send_at,
                validity_s=validity_s,
                reference=reference,
                key=key,
                timeout_s=timeout_s,
            )
        )

    async def send_many(
        self,
        to: Iterable[Entry],
        content: str,
        *,
        type: SmsType | int = SmsType.RANDOM_NUMBER,  # noqa: A002  the name it has on the wire
        sender: str | Number = "",
        validity_s: int | None = None,
        reference: str | None = None,
        concurrency: int = 4,
        journal: str | os.PathLike[str] | None = None,
        progress: Callable[[Totals], None] | None = None,
    ) -> AsyncIterator[Outcome]:
        """As `SpeedSMS.send_many`."""
        if concurrency < 1:
            raise ValueError("concurrency is 1 or more")
        options = {"sms_type": type, "sender": sender, "validity_s": validity_s, "reference": reference}
        run = many.Run.begin(self._peer, content, options, journal)
        tally, running = many.Tally(time.monotonic()), deque[asyncio.Task[many.Part]]()
        calls = map(run.part, many.chunks(to))
        try:
            running.extend(asyncio.create_task(self._run(call)) for call in islice(calls, concurrency))
            while running:
                part = await running[0]
                running.popleft()
                running.extend(asyncio.create_task(self._run(call)) for call in islice(calls, 1))
                totals = tally.add(part, time.monotonic())
                if progress:
                    progress(totals)
                for outcome in part.outcomes:
                    yield outcome
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            run.journal.close()

    async def voice(
        self,
        to: Entry,
        content: str,
        *,
        send_at: Moment | None = None,
        validity_s: int | None = None,
        reference: str | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Sent:
        """As `SpeedSMS.voice`."""
        return await self._run(
            _calls.voice(
                self._peer,
                to,
                content,
                send_at=send_at,
                validity_s=validity_s,
                reference=reference,
                key=key,
                timeout_s=timeout_s,
            )
        )

    async def create_pin(
        self, to: Entry, content: str, *, app_id: str, key: str | None = None, timeout_s: float | None = None
    ) -> PinSent:
        """As `SpeedSMS.create_pin`."""
        return await self._run(
            _calls.create_pin(self._peer, to, content, app_id=app_id, key=key, timeout_s=timeout_s)
        )

    async def verify_pin(
        self, phone: Entry, pin_code: str, *, app_id: str, timeout_s: float | None = None
    ) -> PinCheck:
        """As `SpeedSMS.verify_pin`."""
        return await self._run(
            _calls.verify_pin(self._peer, phone, pin_code, app_id=app_id, timeout_s=timeout_s)
        )

    async def status(self, tran_id: int, *, timeout_s: float | None = None) -> list[NumberStatus]:
        """As `SpeedSMS.status`."""
        return await self._run(_calls.status(self._peer, tran_id, self._peer.budget(timeout_s)))

    async def wait(self, tran_id: int, *, within_s: float = 60.0) -> list[NumberStatus]:
        """As `SpeedSMS.wait`."""
        return await self._run(_calls.wait(self._peer, tran_id, within_s))

    async def send_mms(
        self,
        to: Entry | Iterable[Entry],
        content: str,
        link: str,
        *,
        sender: str,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Sent:
        """As `SpeedSMS.send_mms`."""
        return await self._run(
            _calls.send_mms(self._peer, to, content, link, sender=sender, key=key, timeout_s=timeout_s)
        )

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    async def _run(self, call: Call[T]) -> T:
        answer: Response | Failure | None = None
        while True:
            try:
                step = call.send(answer)
            except StopIteration as done:
                return cast("T", done.value)
            answer = None
            if isinstance(step, Send):
                answer = await self._answer(step)
            else:
                await asyncio.sleep(step.delay_s)

    async def _answer(self, step: Send) -> Response | Failure:
        began, body = time.monotonic(), bytearray()
        try:
            async with (
                asyncio.timeout(step.timeout_s + _GRACE_S),
                self._http.stream(**self._asked(step)) as reply,
            ):
                async for chunk in reply.aiter_bytes():
                    keep(body, chunk, began + step.timeout_s)
                return response(reply, body, began)
        except (httpx2.RequestError, TimeoutError) as error:
            return failure(error, began)
