"""The entries of a call: messages, refused and why, repeats of an earlier one (protocol §4.4, §9)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from speedsms.contract.declined import Declined
from speedsms.numbers import Number, magic, parse
from speedsms.wire import Code, Reason, SmsType

_INVALID_TRICK = 4  # the magic number that is an invalid one (protocol §16)


@dataclass(slots=True)
class Recipients:
    """numbers and entries go side by side; magic: the magic numbers of a test token, in order."""

    order: Sequence[str]
    numbers: list[Number] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    reasons: set[Reason] = field(default_factory=set)
    duplicates: int = 0
    suppressed: int = 0
    magic: list[int] = field(default_factory=list)

    def take_out(self, entries: Mapping[str, Reason]) -> None:
        """Refuse entries found after the first pass; refused ones keep the caller's order."""
        if not entries:
            return
        kept = [(n, e) for n, e in zip(self.numbers, self.entries, strict=True) if e not in entries]
        self.numbers, self.entries = [n for n, _ in kept], [e for _, e in kept]
        refused = set(self.invalid) | set(entries)
        self.invalid = [entry for entry in self.order if entry in refused]
        self.reasons |= set(entries.values())
        self.suppressed += sum(reason is Reason.NUMBER_SUPPRESSED for reason in entries.values())

    def suppress(self, found: Mapping[str, str], sms_type: SmsType) -> None:
        """Take out numbers blocked for fraud and, for advertising, those that want none (protocol §12)."""
        self.take_out(
            {
                entry: Reason.NUMBER_BLOCKED if found[n.e164] == "blocked" else Reason.NUMBER_SUPPRESSED
                for n, entry in zip(self.numbers, self.entries, strict=True)
                if n.e164 in found and (found[n.e164] == "blocked" or sms_type is SmsType.ADVERTISING)
            }
        )

    def none_left(self) -> Declined:
        """The refusal of a call without a usable entry: the most telling reason names it (protocol §6.3)."""
        worst = (Reason.NUMBER_INVALID, Reason.NUMBER_SUPPRESSED, Reason.NUMBER_BLOCKED)
        reason = next(r for r in worst if r in self.reasons)
        return Declined(Code.NUMBER_INVALID, reason, "no entry can be sent to", invalid_phones=self.invalid)

    def counted(self) -> list[str]:
        """The counts among the notices, in the order of protocol §1.3."""
        converted = len([n for n in self.numbers if n.converted])
        counts = {"converted": converted, "duplicates": self.duplicates, "suppressed": self.suppressed}
        return [f"{name}={count}" for name, count in counts.items() if count]


def read(entries: Sequence[str], countries: Collection[str], *, test: bool) -> Recipients:
    """Look at each entry once, in order. test: the token may use the magic numbers."""
    to = Recipients(entries)
    seen: set[str] = set()
    for entry in entries:
        number = parse(entry, countries)
        if number is None and test:
            number = _trick(entry, to)
        if number is None:
            to.invalid.append(entry)
            to.reasons.add(Reason.NUMBER_INVALID)
        elif number.e164 in seen:
            to.duplicates += 1
        else:
            seen.add(number.e164)
            to.numbers.append(number)
            to.entries.append(entry)
    return to


def _trick(entry: str, to: Recipients) -> Number | None:
    trick = magic(entry)
    if trick is None:
        return None
    to.magic.append(trick)
    return Number(f"840000000{trick:02d}") if trick != _INVALID_TRICK else None
