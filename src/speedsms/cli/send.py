"""`send`: to some numbers, or to all of a file; what it would cost is shown first."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

from cyclopts import Parameter
from cyclopts.validators import Number
from cyclopts.validators import Path as PathIs

import speedsms
from speedsms._calls import MOST_ENTRIES
from speedsms.cli import bulk
from speedsms.cli.calls import Key, Numbers, Reference, SendAt, Validity, show_sent, zoned
from speedsms.cli.connection import PLAIN, Connection, command
from speedsms.cli.exits import CONFIGURATION, INTERRUPTED, REFUSED, USAGE
from speedsms.cli.sheet import Unfit
from speedsms.cli.terminal import plain, refuse, say, show, vnd
from speedsms.cli.text import counted
from speedsms.contract.senders import DEFAULT_MAX_PARTS
from speedsms.errors import OutcomeUnknown, Rejected
from speedsms.results import Preview, Sent
from speedsms.text import NotSendable
from speedsms.wire import SmsType

_ASK_ABOVE: Final = 100
_ASK_ABOVE_VND: Final = 100_000
_ASK_KEYS_S: Final = 5.0


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What every message has."""

    type_: Annotated[
        int, Parameter(name="--type", validator=Number(gte=1, lte=8), help="sms_type, as the service has it.")
    ] = 2
    sender: Annotated[str, Parameter(help="Brandname or number it comes from.")] = ""
    validity: Validity = None
    reference: Reference = None

    @property
    def most_parts(self) -> int:
        """Of a message, unless the service is set otherwise (protocol §10.4)."""
        return DEFAULT_MAX_PARTS[SmsType(self.type_)]

    def words(self) -> dict[str, Any]:
        """As the client's methods call them."""
        return {
            "type": self.type_,
            "sender": self.sender,
            "validity_s": self.validity,
            "reference": self.reference,
        }


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """What happens before anything is sent."""

    price_vnd: Annotated[int, Parameter(validator=Number(gte=0), help="Of a part, to show the cost.")] = 0
    dry_run: Annotated[bool, Parameter(negative=(), help="Show what it would be, and send nothing.")] = False
    yes: Annotated[
        bool,
        Parameter(
            negative=(),
            help=f"Do not ask; else a terminal asks above {_ASK_ABOVE} numbers or {vnd(_ASK_ABOVE_VND)}.",
        ),
    ] = False

    def ask(self, numbers: int, cost_vnd: int) -> None:
        """Ends the command unless somebody agrees; a script has nobody to ask."""
        if self.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return
        if numbers <= _ASK_ABOVE and cost_vnd <= _ASK_ABOVE_VND:
            return
        say(f"send to {counted(numbers, 'number')}? y/N")
        if sys.stdin.readline().strip().lower() not in {"y", "yes", "c", "có"}:
            refuse("nothing was sent", "answer y, or add --yes", REFUSED)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """How a file is sent."""

    file: Annotated[
        Path | None,
        Parameter(validator=PathIs(exists=True, dir_okay=False), help="CSV in UTF-8 with a line of names."),
    ] = None
    column: Annotated[str, Parameter(help="The one with the numbers.")] = "phone"
    template: Annotated[
        str | None,
        Parameter(
            help="Instead of --text: {column} stands for the row's. Rows one after another with the same text"
            " go out together, every other text is a request of its own."
        ),
    ] = None
    resume: Annotated[
        bool, Parameter(negative=(), help="Go on with an earlier run; nobody gets it twice.")
    ] = False
    report: Annotated[Path | None, Parameter(help="Write what became of each row into this CSV.")] = None
    concurrency: Annotated[int, Parameter(validator=Number(gte=1, lte=32), help="Calls at once.")] = 4


_HOW, _FIRST, _MANY = How(), First(), Many()


@command
def send(
    *to: Numbers,
    text: Annotated[str | None, Parameter(help="What it says.")] = None,
    send_at: SendAt = None,
    key: Key = None,
    how: How = _HOW,
    first: First = _FIRST,
    many: Many = _MANY,
    options: Connection = PLAIN,
) -> None:
    """With `--file`, a journal beside it keeps what is done: `--resume` goes on where Ctrl-C ended it."""
    said = text if many.template is None else many.template
    if said is None or None not in (text, many.template):
        refuse("there is no text, or there are two", "use either --text or --template", USAGE)
    if bool(to) == bool(many.file):
        refuse("there are no numbers, or two kinds", "name numbers, or a --file", USAGE)
    if many.file and (send_at or key):
        refuse("a file is sent now and keeps its own keys", "leave --send-at and --key out", USAGE)
    if not many.file and (many.report or many.resume):
        refuse("--report and --resume are of a file", "name a --file, or leave them out", USAGE)
    if len(to) > MOST_ENTRIES:
        refuse(f"{len(to)} numbers are more than {MOST_ENTRIES}", "write them to a CSV for --file", USAGE)
    try:
        if many.file:
            _file(
                bulk.File(many.file, many.column, said, many.template is not None), how, first, many, options
            )
            return
        if many.template is not None:
            refuse("a template needs rows", "use --text", USAGE)
        found = speedsms.preview(to, said, type=how.type_, price_vnd=first.price_vnd)
        _told(found, first, options)
    except Unfit as error:
        refuse(error.reason, error.fix, USAGE)
    except NotSendable as error:
        refuse(f"not sendable: {error}", "take it out; it often comes from copying", REFUSED)
    except OSError as error:  # of a report or a journal; what happens on the network is the client's
        refuse(f"{error.filename or 'the journal'} cannot be written", f"{error.strerror}", CONFIGURATION)
    if first.dry_run:
        _would_do(not all(map(bulk.doubt, to)), found.too_long, how)
    else:
        words = how.words() | {"send_at": zoned(send_at)}
        show_sent(options, _sent(to, said, str(uuid4()) if key is None else key, words, options))


def _sent(to: Sequence[str], said: str, key: str, words: dict[str, Any], options: Connection) -> Sent:
    """Whatever happens once it is on its way, the key is told."""
    with options.client() as client:
        try:
            return client.send(to, said, key=key, **words)
        except OutcomeUnknown as error:
            # A fresh process knows nothing of the service, and a read tells whether a repeat would be safe.
            with suppress(Rejected, KeyboardInterrupt):
                raw = client.account(timeout_s=_ASK_KEYS_S).raw
                error.keys_honoured = error.keys_honoured or "x-speedsms-contract" in raw.headers
            error.message += f" (--key {key})."
            raise
        except KeyboardInterrupt:
            with suppress(SystemExit):  # which would have the exit code of an unknown outcome
                _interrupted(key, options=options)
            sys.exit(INTERRUPTED)


@command
def _interrupted(key: str, *, options: Connection) -> None:
    text = f"Interrupted while it was under way: it may have gone out (--key {key})."
    raise OutcomeUnknown(text, key=key, language=options.lang)


def _would_do(usable: bool, too_long: bool, how: How) -> None:
    """Ends a dry run that has found that the service would refuse."""
    if not usable:
        refuse("no number can be used", "nothing would be sent", REFUSED)
    if too_long:
        reason = f"more than {counted(how.most_parts, 'part')}: type {how.type_} takes no more"
        refuse(reason, "shorten the text, unless the service is set otherwise", REFUSED)


def _told(found: Preview, first: First, options: Connection) -> None:
    numbers = sum(found.carriers.values())
    lines = [*_lines(found, numbers, first, options)]
    if first.dry_run:
        data = {
            "encoding": found.segments.encoding,
            "parts_each": found.segments.parts,
            "parts": found.parts,
            "total_vnd": found.total_vnd if first.price_vnd else None,
            "carriers": found.carriers,
            "duplicates": found.duplicates,
            "invalid": options.phones(found.invalid),
            "too_long": found.too_long,
        }
        show(options, data, lines=lines)
        return
    for line in lines:
        say(line)
    first.ask(numbers, found.total_vnd)


def _lines(found: Preview, numbers: int, first: First, options: Connection) -> Iterator[str]:
    by = ", ".join(f"{count} {carrier}" for carrier, count in found.carriers.items())
    cost = f", {vnd(found.total_vnd)}" if first.price_vnd else ""
    parts = counted(found.segments.parts, "part")
    yield f"{counted(numbers, 'number')} ({by}), {found.segments.encoding}, {parts} each{cost}"
    if found.invalid:
        yield f"invalid: {', '.join(options.phones(found.invalid))}"
    if found.duplicates:
        yield f"repeated, and sent once: {found.duplicates}"
    if found.savings.unaccent:
        yield f"without accents it would be {counted(found.savings.unaccent, 'part')} less"


def _file(file: bulk.File, how: How, first: First, many: Many, options: Connection) -> None:
    if many.report and (lost := file.spoilt_by(many.report)):
        refuse(f"--report would overwrite {lost}", "name another file", USAGE)
    survey = bulk.Survey.of(file, how.most_parts, options)
    if first.dry_run:
        total_vnd = survey.parts * first.price_vnd if first.price_vnd else None
        show(options, plain(survey) | {"total_vnd": total_vnd}, lines=survey.lines(first.price_vnd))
        _would_do(survey.usable > 0, survey.too_long > 0, how)
        return
    for line in survey.lines(first.price_vnd):
        say(line)
    if file.journal.exists() and not many.resume:
        fix = "--resume goes on with it; delete it to send everything once more"
        refuse(f"{file.journal} is there from an earlier run", fix, REFUSED)
    first.ask(survey.usable, survey.parts * first.price_vnd)
    meter = bulk.Meter(survey.rows)
    with options.client(meter.heard) as client:
        words = how.words() | {"concurrency": many.concurrency}
        bulk.send_file(bulk.Sending(client, file, words), meter, many.report, options)
