"""The core of `send_many`: chunks, what becomes of each, journal, totals. Threads and tasks: `client`.

A journal is a file of JSON lines. Each chunk stands in it as *begun*, with its key, before bytes leave, and
as *done* or *refused* afterwards; so after a crash between the two the chunk is repeated with the same key.
"""

import errno
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from itertools import count, islice
from pathlib import Path
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from speedsms import _calls
from speedsms._calls import MOST_ENTRIES, Call, Entry, Peer, Wait, text, written
from speedsms._retry import SETTLING, delay_s
from speedsms.errors import (
    InvalidNumber,
    JournalError,
    KeyConflict,
    OutcomeUnknown,
    Rejected,
    SpeedSMSError,
)
from speedsms.numbers import ANY_COUNTRY, Number, parse
from speedsms.results import EntryState, Sent, Totals

if sys.platform != "win32":
    import fcntl

# The gateway keeps keys for 24 hours (protocol §15.1); an hour less allows for clocks that differ.
KEY_LIFE_S: Final = 23 * 3600
_ROUNDS: Final = (
    20  # of a chunk that is told to come back later; with a minute each, the limit has long passed
)
_HEAD: Final = b'{"journal": 1, '
_BLOCK_BYTES: Final = 1_000_000 // 8
# One such entry would refuse its whole call: too long, no text, or torn apart by a form (protocol §4.4).
_UNFIT: Final = re.compile(r"(?s).{65,}|.*[\x00\ud800-\udfff,].*|\s*")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One entry of `send_many` as it was written; `error` says why it is rejected or unknown."""

    entry: str
    state: EntryState
    tran_id: int | None = None
    error: SpeedSMSError | None = None


class Seen:
    """Which numbers came before: a bit for each of the plan, so that 16 MB hold all of Vietnam's mobiles."""

    def __init__(self) -> None:
        self._blocks: dict[str, bytearray] = {}
        self._foreign: set[str] = set()

    def add(self, number: Number) -> bool:
        """Note a number; whether it is new."""
        if number.is_foreign:
            new = number.e164 not in self._foreign
            self._foreign.add(number.e164)
            return new
        block, place = number.e164[2:5], int(number.e164[5:])
        bits = self._blocks.get(block) or self._blocks.setdefault(block, bytearray(_BLOCK_BYTES))
        mask = 1 << (place & 7)
        new = not bits[place >> 3] & mask
        bits[place >> 3] |= mask
        return new


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most 100 entries in the order of the input. `decided`: states, by position, of those not sent."""

    number: int
    entries: Sequence[str]
    decided: Mapping[int, EntryState]

    @property
    def to(self) -> list[str]:
        """What is sent."""
        return [entry for position, entry in enumerate(self.entries) if position not in self.decided]

    @property
    def digest(self) -> str:
        """Tells this input from another one, without numbers in the journal."""
        return sha256(json.dumps(self.entries).encode()).hexdigest()[:32]


def chunks(to: Iterable[Entry]) -> Iterator[Chunk]:
    """The input, cut by position, so that a restart cuts it the same way."""
    seen, rest = Seen(), iter([to] if isinstance(to, str) else to)
    for number in count():
        entries = tuple(map(written, islice(rest, MOST_ENTRIES)))
        if not entries:
            return
        yield Chunk(number, entries, dict(_decided(entries, seen)))


def _decided(entries: Sequence[str], seen: Seen) -> Iterator[tuple[int, EntryState]]:
    for position, entry in enumerate(entries):
        number = parse(entry, (ANY_COUNTRY,))
        if number is None:
            if _UNFIT.fullmatch(entry):
                yield position, EntryState.INVALID
        elif not seen.add(number):
            yield position, EntryState.DUPLICATE


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one chunk."""

    outcomes: Sequence[Outcome]
    total_vnd: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """An accepted chunk as the journal keeps it; `invalid`: positions."""

    digest: str
    tran_id: int
    total_vnd: int
    invalid: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """A chunk that may have been sent with this key; `at`: Unix seconds."""

    digest: str
    key: str
    at: float


class Journal:
    """What is known of a run, on disk; without a path it remembers nothing.

    Raises JournalError: the file is of another run, in use, or broken.
    """

    def __init__(self, path: str | os.PathLike[str] | None, terms: Mapping[str, Any]) -> None:
        self.done: dict[int, Done] = {}
        self.begun: dict[int, Begun] = {}
        self.run = str(uuid4())
        self._lock = Lock()
        self._file: FileIO | None = None
        if path is not None:
            digest = sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()[:32]
            self._file = _opened(Path(path))
            try:
                self._read(self._file, digest)
            except (ValueError, KeyError, TypeError):
                self.close()
                raise JournalError(f"The journal {path} is damaged, or no journal.") from None
            except JournalError:
                self.close()
                raise

    def _read(self, file: FileIO, terms: str) -> None:
        """A last line without its end was cut by a crash: what it would have said did not happen yet.

        It is taken away once the file is known to be a journal: who names another file by mistake keeps it.
        """
        whole, _, torn = file.read().rpartition(b"\n")
        if not whole and torn[: len(_HEAD)] == _HEAD[: len(torn)]:
            file.truncate(0)
            file.seek(0)
            self._write({"journal": 1, "run": self.run, "terms": terms}, durable=True)
            return
        head, *rows = map(json.loads, whole.split(b"\n"))
        if head["terms"] != terms:
            raise JournalError("The journal is of another text, sender, option, address or token.")
        self.run = head["run"]
        file.truncate(len(whole) + 1)
        file.seek(0, os.SEEK_END)
        for row in rows:
            self._recall(row)

    def _recall(self, row: dict[str, Any]) -> None:
        number = row["chunk"]
        if row["is"] == "begun":
            self.begun[number] = Begun(row["digest"], row["key"], row["at"])
        elif row["is"] == "done":
            self.begun.pop(number, None)
            self.done[number] = Done(row["digest"], row["tran_id"], row["total_vnd"], tuple(row["invalid"]))
        else:
            self.begun.pop(number, None)

    def known(self, chunk: Chunk) -> Done | Begun | None:
        """What is on record. Raises JournalError if it is of another input."""
        found = self.done.get(chunk.number) or self.begun.get(chunk.number)
        if found and found.digest != chunk.digest:
            first = chunk.number * MOST_ENTRIES
            raise JournalError(f"The journal is of another input: entries from {first} on differ.")
        return found

    def begin(self, chunk: Chunk) -> str:
        """Before bytes leave: on disk when this returns. The key of the chunk."""
        key = f"{self.run}.{chunk.number}"
        row = {"is": "begun", "chunk": chunk.number, "digest": chunk.digest, "key": key, "at": time.time()}
        self._write(row, durable=True)
        return key

    def finish(self, chunk: Chunk, sent: Sent) -> Done:
        """It was accepted."""
        refused = set(sent.invalid_phones)
        invalid = tuple(position for position, entry in enumerate(chunk.entries) if entry in refused)
        done = Done(chunk.digest, sent.tran_id, sent.total_vnd, invalid)
        facts = {"digest": done.digest, "tran_id": done.tran_id, "total_vnd": done.total_vnd}
        self._write({"is": "done", "chunk": chunk.number, **facts, "invalid": invalid})
        return done

    def refuse(self, chunk: Chunk) -> None:
        """It certainly was not sent, and may be sent by a later run."""
        self._write({"is": "refused", "chunk": chunk.number})

    def _write(self, row: Mapping[str, Any], *, durable: bool = False) -> None:
        if self._file is None:
            return
        line = json.dumps(row).encode() + b"\n"
        with self._lock:
            end = self._file.tell()
            if self._file.write(line) < len(line):  # a full disk takes a part, which would spoil the next row
                self._file.seek(self._file.truncate(end))
                raise OSError(errno.ENOSPC, "no room for the journal of send_many")
            if durable:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """The next run may have it."""
        if self._file:
            self._file.close()


def _opened(path: Path) -> FileIO:
    try:
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as error:
        raise JournalError(f"The journal {path} cannot be opened: {error.strerror}") from None
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise JournalError(f"The journal {path} is in use by another run.") from None
    return file


@dataclass(slots=True)
class Run:
    """One `send_many`. `ended`: the refusal that stands for all, after which nothing more is sent."""

    peer: Peer
    journal: Journal
    content: str
    options: Mapping[str, Any]
    ended: SpeedSMSError | None = None

    @classmethod
    def begin(
        cls, peer: Peer, content: str, options: Mapping[str, Any], journal: str | os.PathLike[str] | None
    ) -> "Run":
        """Raises JournalError: the journal is of another run."""
        # Keys belong to an account: under another token the same key would send again.
        service = {"base_url": peer.base_url, "caller": peer.judge.caller}
        terms = service | {"content": text(content), **options}
        terms["sender"] = written(options["sender"])
        return cls(peer, Journal(journal, terms), content, options)

    def part(self, chunk: Chunk) -> Call[Part]:
        """What becomes of a chunk. Raises JournalError (a journal of another input)."""
        known = self.journal.known(chunk)
        if isinstance(known, Done):
            return _accepted(chunk, known)
        if self.ended:
            return _all(chunk, EntryState.UNKNOWN if known else EntryState.REJECTED, self.ended)
        if not chunk.to:
            return _all(chunk, EntryState.DUPLICATE, None)
        if known and (time.time() - known.at > KEY_LIFE_S or not (yield from _keys_honoured(self.peer))):
            return _all(chunk, EntryState.UNKNOWN, _cut_off(known.key))
        key = known.key if known else self.journal.begin(chunk)
        try:
            sent = yield from self._sent(chunk, key)
        except OutcomeUnknown as error:
            return _all(chunk, EntryState.UNKNOWN, error)
        except Rejected as error:
            return self._rejected(chunk, error, doubtful=known is not None)
        return _accepted(chunk, self.journal.finish(chunk, sent))

    def _sent(self, chunk: Chunk, key: str) -> Call[Sent]:
        """With more patience than one call has: a limit of 60 requests a minute is met by every long run."""
        for attempt in count(1):
            try:
                return (yield from _calls.send(self.peer, chunk.to, self.content, key=key, **self.options))
            except Rejected as error:
                if not error.retryable or attempt == _ROUNDS or self.ended:
                    raise
                wait_s = delay_s(attempt, error.retry_after_s, self.peer.chance())
            yield Wait(wait_s)
        raise AssertionError  # the loop has no end of its own

    def _rejected(self, chunk: Chunk, error: Rejected, *, doubtful: bool) -> Part:
        """doubtful: an earlier run began the chunk; only some refusals tell that it had not been accepted."""
        if not isinstance(error, InvalidNumber | KeyConflict):
            self.ended = self.ended or error
        if doubtful and error.code not in SETTLING:
            return _all(chunk, EntryState.UNKNOWN, error)
        self.journal.refuse(chunk)
        return _all(chunk, EntryState.REJECTED, error)


def _accepted(chunk: Chunk, done: Done) -> Part:
    decided = {**dict.fromkeys(done.invalid, EntryState.INVALID), **chunk.decided}
    outcomes = [
        Outcome(entry, EntryState.ACCEPTED, done.tran_id)
        if position not in decided
        else Outcome(entry, decided[position])
        for position, entry in enumerate(chunk.entries)
    ]
    return Part(outcomes, done.total_vnd)


def _all(chunk: Chunk, state: EntryState, error: SpeedSMSError | None) -> Part:
    """The same for each entry, but for those decided before and those that the refusal calls invalid."""
    invalid = set(error.invalid_phones) if error else set()
    outcomes = []
    for position, entry in enumerate(chunk.entries):
        decided = chunk.decided.get(position) or (EntryState.INVALID if entry in invalid else None)
        outcomes.append(Outcome(entry, decided) if decided else Outcome(entry, state, error=error))
    return Part(outcomes)


def _keys_honoured(peer: Peer) -> Call[bool]:
    """Ask for the account if nothing is known yet: every reply of a gateway that honours keys says so."""
    if peer.judge.honours_keys is None:
        try:
            yield from _calls.account(peer)
        except Rejected:
            return bool(peer.judge.honours_keys)
    return bool(peer.judge.honours_keys)


def _cut_off(key: str) -> OutcomeUnknown:
    return OutcomeUnknown("An earlier run was cut off while sending this, and its key does not help", key=key)


class Tally:
    """Counts outcomes as they go by."""

    def __init__(self, began_s: float) -> None:
        self._states: Counter[EntryState] = Counter()
        self._total_vnd = 0
        self._began_s = began_s

    def add(self, part: Part, now_s: float) -> Totals:
        """Where the run stands with this part."""
        self._states.update(outcome.state for outcome in part.outcomes)
        self._total_vnd += part.total_vnd
        done = self._states.total()
        by_state = {state.value: self._states[state] for state in EntryState}
        per_s = done / max(now_s - self._began_s, 0.001)
        return Totals(done=done, total_vnd=self._total_vnd, per_s=per_s, **by_state)
