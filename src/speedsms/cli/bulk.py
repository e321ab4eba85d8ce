"""`send --file`: all numbers of a CSV, resumable, with a report of each."""

import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from speedsms.cli.connection import Connection, exit_code, tell
from speedsms.cli.exits import INTERRUPTED, REFUSED, UNKNOWN
from speedsms.cli.sheet import Report, Row, rows
from speedsms.cli.terminal import progress, say, show, vnd
from speedsms.errors import InvalidNumber, KeyConflict, NotSendable, Rejected, SpeedSMSError, TooLong
from speedsms.numbers import ANY_COUNTRY, magic, parse
from speedsms.results import EntryState, Totals
from speedsms.text import segments

if TYPE_CHECKING:
    from speedsms import SpeedSMS

_EXAMPLES: Final = 5
_WINDOW_S: Final = 30.0  # of which the speed is told
_IN_PLACE_S, _IN_LINES_S = 0.2, 10.0
_BAR: Final = 20


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


@dataclass(slots=True)
class Survey:
    """What a file is before anything is sent. `texts`: rows in a row with the same text count once."""

    rows: int = 0
    usable: int = 0
    texts: int = 0
    parts: int = 0
    unusable: list[str] = field(default_factory=list)  # the first of them

    @classmethod
    def of(cls, file: File, options: Connection) -> "Survey":
        """Raises Unfit."""
        found, before, parts = cls(), None, lru_cache(maxsize=1)(lambda text: segments(text).parts)
        for row in file.rows():
            found.rows += 1
            found.texts += row.text != before
            before = row.text
            if note := row.note or _doubt(row.entry):
                shown = f" {row.entry!r}" * options.show_pii
                if len(found.unusable) < _EXAMPLES:
                    found.unusable.append(f"line {row.line}{shown}: {note}")
            else:
                found.usable += 1
                found.parts += parts(row.text)
        return found

    def lines(self, price_vnd: int) -> Iterator[str]:
        cost = f", {vnd(self.parts * price_vnd)}" if price_vnd else ""
        yield f"{self.rows} rows, {self.usable} usable numbers, {self.texts} texts, {self.parts} parts{cost}"
        if left := self.rows - self.usable:
            yield f"{left} rows cannot be used, such as:"
            yield from (f"  {example}" for example in self.unusable)


def _doubt(entry: str) -> str:
    known = parse(entry, (ANY_COUNTRY,)) or magic(entry)
    return "" if known else "no number of the plan; the service is asked"


class Fate(NamedTuple):
    """What became of a row."""

    row: Row
    state: EntryState
    tran_id: int | None = None
    error: SpeedSMSError | None = None


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

        before_vnd = self.total_vnd

        def count(totals: Totals) -> None:
            self.total_vnd = before_vnd + totals.total_vnd

        for outcome in self.client.send_many(entries(), text, journal=journal, progress=count, **self.how):
            while waiting[0].note:
                yield Fate(waiting.popleft(), EntryState.INVALID)
            self._stop_at(outcome.error)
            yield Fate(waiting.popleft(), outcome.state, outcome.tran_id, outcome.error)
        yield from (Fate(row, EntryState.INVALID) for row in waiting)

    def _stop_at(self, error: SpeedSMSError | None) -> None:
        """The next text of a template may be fine where this one or its numbers were not."""
        if isinstance(error, Rejected) and not isinstance(
            error, InvalidNumber | KeyConflict | NotSendable | TooLong
        ):
            self.ended = self.ended or error


class Meter:
    """How far it has come: in place for eyes, a line now and then for a log."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._every_s = _IN_PLACE_S if sys.stderr.isatty() else _IN_LINES_S
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def show(self, states: Counter[EntryState]) -> None:
        now, done = time.monotonic(), states.total()
        if now - self._seen[-1][0] < self._every_s:
            return
        while now - self._seen[0][0] > _WINDOW_S and len(self._seen) > 1:
            self._seen.popleft()
        began, before = self._seen[0]
        self._seen.append((now, done))
        per_s = (done - before) / (now - began)
        line = self._line(states, done, per_s)
        progress(line) if sys.stderr.isatty() else say(line)

    def _line(self, states: Counter[EntryState], done: int, per_s: float) -> str:
        full = _BAR * done // max(self._total, 1)
        left_s = round((self._total - done) / per_s) if per_s else 0
        counted = ", ".join(f"{number} {state}" for state, number in states.items())
        bar = f"[{'#' * full:.<{_BAR}}] {done}/{self._total}"
        return f"{bar}, {counted}, {per_s:.0f}/s, {left_s // 60}:{left_s % 60:02} left"


def send_file(sending: Sending, total: int, report: Path | None, options: Connection) -> None:
    """Ends the command. Raises ConfigurationError (a journal of something else) and Unfit."""
    states: Counter[EntryState] = Counter()
    first: SpeedSMSError | None = None
    meter = Meter(total)
    try:
        with (
            report.open("w", encoding="utf-8-sig", newline="") if report else nullcontext() as out,
            closing(sending.fates()) as fates,  # which waits for the calls under way
        ):
            table = Report(out) if out else None
            for fate in fates:
                states[fate.state] += 1
                first = first or fate.error
                if table:
                    table.write(fate.row, fate.state, fate.tran_id, *_why(fate))
                meter.show(states)
    except KeyboardInterrupt:
        say(f"interrupted after {states.total()} rows: the same command with --resume goes on")
        sys.exit(INTERRUPTED)
    progress("")
    _conclude(sending, states, first, report, options)


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
    counted = ", ".join(f"{number} {state}" for state, number in states.items()) or "nothing to send"
    named = {"report": report, "journal": sending.file.journal}
    show(options, data | named, lines=[f"{counted}, {vnd(sending.total_vnd)}"])
    if states[EntryState.UNKNOWN] or states[EntryState.REJECTED]:
        if first:
            tell(first, options)
        say("the same command with --resume tries again what is left")
        sys.exit(UNKNOWN if states[EntryState.UNKNOWN] or not first else exit_code(first))
    if not states[EntryState.ACCEPTED]:
        sys.exit(REFUSED)
