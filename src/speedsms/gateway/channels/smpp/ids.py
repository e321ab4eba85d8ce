"""A message id as written → the key it is filed under, the keys a receipt's id may mean (channels §3.11).

One key per reference is stored, so it is the receipt's id that is turned into each form the response may
have had.
"""

from typing import Final, Literal, TypeAlias

IdForm: TypeAlias = Literal["auto", "exact", "plain", "hex_dec", "dec_hex"]
LONGEST: Final = 255  # octets kept of an id; the standard allows 64

_BLANK: Final = " \t\r\n\0"
_DECIMAL: Final = "0123456789"
_HEX: Final = "0123456789abcdef"


def key(reference: str) -> str:
    """Key A: without blanks and NUL, lower case, without leading zeros; "" if there is no id."""
    trimmed = reference[:LONGEST].strip(_BLANK).lower()
    return trimmed.lstrip("0") or trimmed[:1]


def filed(reference: str, form: IdForm) -> str:
    """The key to store beside the reference of a response; "" if the response named none."""
    return reference[:LONGEST].strip(_BLANK) if form == "exact" else key(reference)


def keys(reference: str, form: IdForm) -> tuple[str, ...]:
    """What the id of a receipt may be filed under, best first; () if it has none."""
    found = filed(reference, form)
    if not found:
        return ()
    if form in ("exact", "plain"):
        return (found,)
    forms = [found] if form == "auto" else []
    decimal = not found.strip(_DECIMAL)
    if decimal and form != "dec_hex":
        forms.append(f"{int(found):x}")
    if form != "hex_dec" and (decimal or not found.strip(_HEX)):
        forms.append(str(int(found, 16)))
    return tuple(forms) if len(found) > 1 else tuple(dict.fromkeys(forms))  # of one digit all are the same


def rule_name(reference: str, matched: str, form: IdForm) -> str:
    """Which rule turned a receipt's id into the key that matched: exact, plain, hex_dec or dec_hex.

    Of two that give the same key it is the better one; "" if none does: the key is that of another id which
    the receipt names too.
    """
    rules: tuple[IdForm, ...] = ("plain", "hex_dec", "dec_hex") if form == "auto" else (form,)
    return next((rule for rule in rules if matched in keys(reference, rule)), "")
