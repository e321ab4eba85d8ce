"""A CSV of numbers, row by row, as spreadsheets write it; and the CSV that tells what became of each."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

from speedsms.numbers import ANY_COUNTRY, parse
from speedsms.text import NotSendable, segments

COLUMNS: Final = ("line", "entry", "state", "tran_id", "code", "note")
_LONGEST_HEADER: Final = 65_536
_SHOWN: Final = 64
_DELIMITERS: Final = ",;\t"
_AROUND: Final = 10
# Of a template: a brace itself, a column, or half of something.
_BRACES: Final = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
# Digits and what parse_number takes out between them; everything else cannot be a number anywhere.
_NUMBER_LIKE: Final = re.compile(
    r"[0-9+().\-\s\u00a0\u200b-\u200f\u202a-\u202f\u2060\u2066-\u2069\ufeff]{1,40}", re.ASCII
)
_ROUNDED: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]+")
_FRACTION: Final = re.compile(r"[0-9]{5,}[.,]0{1,2}")
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")
_PLAIN_NUMBER: Final = re.compile(r"\+?[0-9]+")


class Unfit(Exception):  # noqa: N818 - it says what the file is
    """The file cannot be used: why, and what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True, slots=True)
class Row:
    """`line`: where its record ends in the file. `note`: why it is not sent; empty if it is."""

    line: int
    entry: str
    text: str
    note: str = ""


def rows(path: Path, column: str, text: str, *, template: bool) -> Iterator[Row]:
    """Memory does not grow with the file. Raises Unfit."""
    if not path.is_file():
        raise Unfit(f"{path} is no file", "write it to one: it is read twice")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(file, column, text, template=template)
    except UnicodeDecodeError:
        raise Unfit(f"{path} is not UTF-8", 'save it as "CSV UTF-8"') from None
    except OSError as error:
        raise Unfit(f"{path} cannot be read: {error.strerror}", "name a file that is there") from None
    except csv.Error as error:
        raise Unfit(f"{path} is no CSV ({error})", "look for a quote that is not closed") from None


def _rows(file: IO[str], column: str, text: str, *, template: bool) -> Iterator[Row]:
    header = file.readline(_LONGEST_HEADER)
    file.seek(0)
    reader = csv.reader(file, delimiter=max(_DELIMITERS, key=header.count), strict=True)
    names = [name.strip() for name in next(reader, [])]
    wanted = _wanted(text) if template else []
    for name in (column, *wanted):
        _once(name, names)
    said = "" if template else text  # a row that is not sent stays with the text before it
    for cells in reader:
        if any(cells):
            row = dict(zip(names, [*cells, *[""] * len(names)], strict=False))
            filled = _filled(text, row) if template else text
            entry = row[column].strip().removeprefix("'")  # with which spreadsheets mark a text
            shifted = bool(wanted) and any(cells[len(names) :])
            note = _entry_note(entry) or _cells_note(row, wanted, shifted=shifted) or _text_note(filled)
            said = said if note else filled
            yield Row(reader.line_num, entry[:_SHOWN], said, note)


def _wanted(template: str) -> list[str]:
    """The columns that it uses. Raises Unfit: half a brace would be sent as it stands, and billed."""
    for found in _BRACES.finditer(template):
        if len(found[0]) == 1:
            at = found.start()
            near = template[max(at - _AROUND, 0) : at + _AROUND]
            reason = f"the {found[0]} at character {at + 1} of the template has no other half, in {near!r}"
            raise Unfit(reason, "a column is {name}; write {{ or }} for a brace itself")
    return [name for name in _BRACES.findall(template) if name]


def _filled(template: str, row: dict[str, str]) -> str:
    return _BRACES.sub(lambda found: row[found[1]] if found[1] else found[0][0], template)


def _once(name: str, names: list[str]) -> None:
    if names.count(name) == 1:
        return
    reason = f"the column {name!r} is {'twice' if name in names else 'not'} in the file"
    if any(parse(cell, (ANY_COUNTRY,)) for cell in names):
        raise Unfit(
            reason, f"its first line is a number already: add a line of names above it, such as {name}"
        )
    raise Unfit(reason, f"its first line names {', '.join(map(repr, names[:20])) or 'nothing'}")


def _cells_note(row: dict[str, str], wanted: list[str], *, shifted: bool) -> str:
    """Why the row does not fill the template; where its cells moved, the text would be another's."""
    if shifted:
        return "it has more cells than the first line has names: put quotes around a cell with a separator"
    return next((f"its {name!r} is empty" for name in wanted if not row[name].strip()), "")


def _entry_note(entry: str) -> str:
    if _ROUNDED.fullmatch(entry):
        return "a spreadsheet rounded it and its digits are lost: format the column as text, export again"
    if _FRACTION.fullmatch(entry):
        return "a spreadsheet made a fraction of it: format the column as text, export again"
    return "" if _NUMBER_LIKE.fullmatch(entry) else "not a number"


@lru_cache(maxsize=1)
def _text_note(text: str) -> str:
    if not text.strip():
        return "the text is empty"
    try:
        segments(text)
    except NotSendable as error:
        return f"not sendable: {error}"
    return ""


class Report:
    """Opened in a spreadsheet, no cell of it is a formula (UTF-8 with its mark, which Excel needs)."""

    def __init__(self, file: IO[str]) -> None:
        if file.seekable():  # opened without emptying it: an earlier report outlives a run that is refused
            file.seek(0)
            file.truncate()
        self._writer = csv.writer(file)
        self._writer.writerow(COLUMNS)

    def write(self, row: Row, state: str, tran_id: int | None, code: str | None, note: str) -> None:
        self._writer.writerow([_safe(cell) for cell in (row.line, row.entry, state, tran_id, code, note)])


def _safe(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    return f"'{text}" if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text) else text
