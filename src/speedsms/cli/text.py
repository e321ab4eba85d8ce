"""`segments`: what a text costs, and what would make it cheaper, without sending it."""

from collections.abc import Iterator
from typing import Annotated, Final

from cyclopts import Parameter

from speedsms.cli.exits import REFUSED
from speedsms.cli.terminal import Output, refuse, show
from speedsms.text import Costly, NotSendable, Segments, TextMode, costly, savings, segments

PLAIN: Final = Output()
_SHOWN: Final = 10


def segments_(
    text: Annotated[str, Parameter(help="The text, in quotes.")],
    *,
    mode: Annotated[TextMode, Parameter(help="What may be done to it before it is counted.")] = TextMode.KEEP,
    options: Output = PLAIN,
) -> None:
    try:
        found = segments(text, mode)
    except NotSendable as error:
        refuse(f"not sendable: {error}", "take it out; it often comes from copying", REFUSED)
    plain, costs = segments(text, TextMode.UNACCENT), costly(found.text)
    data = {
        "encoding": found.encoding,
        "units": found.units,
        "parts": found.parts,
        "notices": found.changed,
        "costly": [cost._asdict() for cost in costs],
        "saved_parts": savings(text)._asdict(),
        "unaccented": {"text": plain.text, "encoding": plain.encoding, "parts": plain.parts},
    }
    show(options, data, lines=_lines(text, found, plain, costs))


def counted(number: int, what: str) -> str:
    """`1 part`, `2 parts`."""
    return f"{number} {what}{'s' * (number != 1)}"


def _lines(text: str, found: Segments, plain: Segments, costs: list[Costly]) -> Iterator[str]:
    if not found.text.strip():
        yield "nothing to send: the text is empty"
        return
    yield f"{found.encoding}, {counted(found.units, 'unit')}, {counted(found.parts, 'part')}"
    if "nfc" in found.changed:
        yield "accents that stood apart from their letters are put together (nfc), as in every message"
    for cost in costs[:_SHOWN]:
        units = (
            "makes the whole text UCS-2"
            if found.encoding == "ucs2"
            else f"costs {counted(cost.units, 'unit')}"
        )
        yield f"  {cost.character!r} at {cost.position} {units}"
    if len(costs) > _SHOWN:
        yield f"  and {len(costs) - _SHOWN} more"
    for step, parts in savings(text)._asdict().items():
        if parts:
            yield f"{step} saves {counted(parts, 'part')}"
    if plain.text != found.text:
        yield f"unaccented, {counted(plain.parts, 'part')}: {plain.text}"
