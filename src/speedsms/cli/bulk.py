"""`send --file`: all numbers of a CSV, resumable, with a report of each."""

import re
import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from speedsms._calls import MOST_ENTRIES
from speedsms.cli.connection import Connection, exit_code, tell
from speedsms.cli.exits import INTERRUPTED, REFUSED, UNKNOWN
from speedsms.cli.sheet import Report, Row, rows
from speedsms.cli.terminal import progress, say, show, vnd
from speedsms.cli.text import counted
from speedsms.errors import (
    InvalidNumber,
    JournalError,
    KeyConflict,
    NotSendable,
    Rejected,
    SpeedSMSError,
    TooLong,
)
from speedsms.numbers import ANY_COUNTRY, magic, parse
from speedsms.results import EntryState, Exchange, Totals
from speedsms.text import segments

if TYPE_CHECKING:
    from speedsms import SpeedSMS

_EXAMPLES: Final = 5
_WINDOW_S: Final = 30.0  # of which the speed is told
_IN_PLACE_S, _IN_LINES_S = 0.2, 10.0
_BAR: Final = 20
_SAY_AGAIN_S: Final = 60.0
_LIMITED: Final = 429
_JOURNAL: Final = b'{"journal": '
_DONE: Final = re.compile(rb'"is": "done", "chunk": ([0-9]+),')


@dataclass(frozen=True, slots=True)
class File:
    """What is sent to which column of what; `template`: the text has {columns}."""

    path: Path
    column: str
    text: str
    template: bool

    def rows(self) -> Iterator[Row]:
        """Raises Unfit."""
        return rows(self.path, self.column, self.text, template=self.template)

    @property
    def journal(self) -> Path:
        """What a run remembers; of a template a folder, since each text is a run of its own."""
        return self.path.with_name(f"{self.path.name}.journal")

    def spoilt_by(self, report: Path) -> str:
        """What would be lost if the report were written there, under whatever name; empty if nothing."""
        if report.exists() and report.samefile(self.path):
            return "the list itself"
        if report.resolve().is_relative_to(self.journal.resolve()):
            return "the journal"
        if report.is_file():
            with report.open("rb") as file:
                return "a journal" if file.read(len(_JOURNAL)) == _JOURNAL else ""
        return ""


@dataclass(slots=True)
class Survey:
    """What a file is before anything is sent. `texts`: usable rows in a row with the same text count once.

    `too_long`: usable rows with more parts than the type takes unless the service is set otherwise.
    """

    rows: int = 0
    usable: int = 0
    texts: int = 0
    parts: int = 0
    too_long: int = 0
    unusable: list[str] = field(default_factory=list)  # the first of them

    @classmethod
    def of(cls, file: File, most_parts: int, options: Connection) -> "Survey":
        """Raises Unfit."""
        found, before, parts = cls(), None, lru_cache(maxsize=1)(lambda text: segments(text).parts)
        for row in file.rows():
            found.rows += 1
            if note := row.note or doubt(row.entry):
                shown = f" {row.entry!r}" * options.show_pii
                if len(found.unusable) < _EXAMPLES:
                    found.unusable.append(f"line {row.line}{shown}: {note}")
            else:
                found.usable += 1
                found.texts += row.text != before
                before = row.text
                found.parts += parts(row.text)
                found.too_long += parts(row.text) > most_parts
        return found

    def lines(self, price_vnd: int) -> Iterator[str]:
        cost = f", {vnd(self.parts * price_vnd)}" if price_vnd else ""
        sizes = {"row": self.rows, "usable number": self.usable, "text": self.texts, "part": self.parts}
        yield ", ".join(counted(number, what) for what, number in sizes.items()) + cost
        if left := self.rows - self.usable:
            yield f"{counted(left, 'row')} cannot be used, such as:"
            yield from (f"  {example}" for example in self.unusable)


def doubt(entry: str) -> str:
    """Why an entry may be no number; empty if it is one."""
    known = parse(entry, (ANY_COUNTRY,)) or magic(entry)
    return "" if known else "no number of the plan; the service is asked"


class Fate(NamedTuple):
    """What became of a row."""

    row: Row
    state: EntryState
    tran_id: int | None = None
    error: SpeedSMSError | None = None
    earlier: bool = False  # sent by another run, which is remembered


@dataclass(slots=True)
class Sending:
    """One run over a file. `how`: sender, type and so on, as send_many takes them."""

    client: "SpeedSMS"
    file: File
    how: dict[str, Any]
    total_vnd: int = 0
    ended: SpeedSMSError | None = None

    def fates(self) -> Generator[Fate]:
        """In the order of the file."""
        if self.file.template:
            if self.file.journal.is_file():
                raise JournalError(f"The journal {self.file.journal} is of a run with --text.")
            self.file.journal.mkdir(mode=0o700, exist_ok=True)
        for number, (text, group) in enumerate(groupby(self.file.rows(), key=lambda row: row.text)):
            journal = self.file.journal / f"{number}.jsonl" if self.file.template else self.file.journal
            if self.ended and not journal.exists():
                yield from map(self._left, group)
            else:
                yield from self._group(group, text, journal)

    def _left(self, row: Row) -> Fate:
        return Fate(row, EntryState.INVALID) if row.note else Fate(row, EntryState.REJECTED, None, self.ended)

    def _group(self, group: Iterable[Row], text: str, journal: Path) -> Iterator[Fate]:
        waiting: deque[Row] = deque()

        def entries() -> Iterator[str]:
            for row in group:
                waiting.append(row)
                if not row.note:
                    yield row.entry

        before_vnd, done = self.total_vnd, _done(journal)

        def count(totals: Totals) -> None:
            self.total_vnd = before_vnd + totals.total_vnd

        outcomes = self.client.send_many(entries(), text, journal=journal, progress=count, **self.how)
        for number, outcome in enumerate(outcomes):
            while waiting[0].note:
                yield Fate(waiting.popleft(), EntryState.INVALID)
            self._stop_at(outcome.error)
            earlier = number // MOST_ENTRIES in done
            yield Fate(waiting.popleft(), outcome.state, outcome.tran_id, outcome.error, earlier)
        yield from (Fate(row, EntryState.INVALID) for row in waiting)

    def _stop_at(self, error: SpeedSMSError | None) -> None:
        """The next text of a template may be fine where this one or its numbers were not."""
        if isinstance(error, Rejected) and not isinstance(
            error, InvalidNumber | KeyConflict | NotSendable | TooLong
        ):
            self.ended = self.ended or error


def _done(journal: Path) -> set[int]:
    """The chunks that earlier runs sent."""
    return set(map(int, _DONE.findall(journal.read_bytes()))) if journal.is_file() else set()


class Meter:
    """How far it has come: in place for eyes, a line now and then for a log."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._every_s = _IN_PLACE_S if sys.stderr.isatty() else _IN_LINES_S
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._said: dict[str, float] = {}

    def heard(self, exchange: Exchange) -> None:
        """Says why it takes long, at most once a minute for each cause; called by the threads that send."""
        if exchange.status == _LIMITED:
            cause = "the rate limit is reached: waiting until more may be sent"
        elif exchange.status is None:
            cause = "the service is away or does not answer: trying again for a while"
        else:
            return
        now = time.monotonic()
        if now - self._said.get(cause, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            self._said[cause] = now
            progress("")
            say(cause)

    def show(self, states: Counter[EntryState], earlier: int = 0) -> None:
        """`earlier`: how many of them another run sent, which says nothing about the speed."""
        now, done = time.monotonic(), states.total() - earlier
        if now - self._seen[-1][0] < self._every_s:
            return
        while now - self._seen[0][0] > _WINDOW_S and len(self._seen) > 1:
            self._seen.popleft()
        began, before = self._seen[0]
        self._seen.append((now, done))
        per_s = (done - before) / (now - began)
        line = self._line(states, done + earlier, per_s)
        progress(line) if sys.stderr.isatty() else say(line)

    def _line(self, states: Counter[EntryState], done: int, per_s: float) -> str:
        full = _BAR * done // max(self._total, 1)
        left_s = round((self._total - done) / per_s) if per_s else 0
        by = ", ".join(f"{number} {state}" for state, number in states.items())
        bar = f"[{'#' * full:.<{_BAR}}] {done}/{self._total}"
        return f"{bar}, {by}, {per_s:.0f}/s, {left_s // 60}:{left_s % 60:02} left"


def send_file(sending: Sending, meter: Meter, report: Path | None, options: Connection) -> None:
    """Ends the command. Raises JournalError (a journal of something else) and Unfit."""
    states: Counter[EntryState] = Counter()
    first: SpeedSMSError | None = None
    earlier = 0
    try:
        with (
            report.open("a", encoding="utf-8-sig", newline="") if report else nullcontext() as out,
            closing(sending.fates()) as fates,  # which waits for the calls under way
        ):
            begun = [*islice(fates, 1)]  # so the journal is of this run
            table = Report(out) if out else None
            for fate in chain(begun, fates):
                states[fate.state] += 1
                earlier += fate.earlier
                first = first or fate.error
                if table:
                    table.write(fate.row, fate.state, fate.tran_id, *_why(fate))
                meter.show(states, earlier)
    except KeyboardInterrupt:
        say(f"interrupted after {counted(states.total(), 'row')}: the same command with --resume goes on")
        sys.exit(INTERRUPTED)
    except JournalError as error:
        raise _advised(error, sending.file) from None
    progress("")
    _conclude(sending, states, first, report, options)


def _advised(error: JournalError, file: File) -> JournalError:
    """With what to do about it."""
    fix = (
        "--resume wants the file, text and options of the earlier run."
        f" Once that has ended, delete {file.journal} to send everything once more."
    )
    return JournalError(f"{error.message} {fix}")


def _why(fate: Fate) -> tuple[str | None, str]:
    return (fate.error.code, str(fate.error)) if fate.error else (None, fate.row.note)


def _conclude(
    sending: Sending,
    states: Counter[EntryState],
    first: SpeedSMSError | None,
    report: Path | None,
    options: Connection,
) -> None:
    data = {"rows": states.total()} | {state.value: states[state] for state in EntryState}
    data |= {"total_vnd": sending.total_vnd}
    by = ", ".join(f"{number} {state}" for state, number in states.items()) or "nothing to send"
    named = {"report": report, "journal": sending.file.journal}
    show(options, data | named, lines=[f"{by}, {vnd(sending.total_vnd)}"])
    if states[EntryState.UNKNOWN] or states[EntryState.REJECTED]:
        if first:
            tell(first, options)
        say("the same command with --resume tries again what is left")
        sys.exit(UNKNOWN if states[EntryState.UNKNOWN] or not first else exit_code(first))
    if not states[EntryState.ACCEPTED]:
        sys.exit(REFUSED)
