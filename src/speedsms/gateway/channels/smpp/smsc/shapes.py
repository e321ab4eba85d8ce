"""Texts of receipts as carriers write them, by name (channels §3.12). Dates are of UTC+7, as in Viet Nam.

Fields of a template: id, sub, dlvrd, state, State (its long form), err, text, and the dates submit and done
of 10 digits, submit12, done12, submit14, done14. Literal braces are doubled.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

STATES: Final[Mapping[str, int]] = {
    "SCHEDULED": 0,
    "ENROUTE": 1,
    "DELIVRD": 2,
    "EXPIRED": 3,
    "DELETED": 4,
    "UNDELIV": 5,
    "ACCEPTD": 6,
    "UNKNOWN": 7,
    "REJECTD": 8,
    "SKIPPED": 9,
}
_LONG: Final[Mapping[str, str]] = {
    "DELIVRD": "delivered",
    "EXPIRED": "expired",
    "DELETED": "deleted",
    "UNDELIV": "undeliverable",
    "ACCEPTD": "accepted",
    "REJECTD": "rejected",
}

_STANDARD: Final = (
    "id:{id} sub:{sub} dlvrd:{dlvrd} submit date:{submit} done date:{done} stat:{state} err:{err} text:{text}"
)
SHAPES: Final[Mapping[str, str]] = {
    "standard": _STANDARD,
    "seconds": _STANDARD.replace("submit}", "submit12}").replace("done}", "done12}"),
    "century": _STANDARD.replace("submit}", "submit14}").replace("done}", "done14}"),
    "no_dates": "id:{id} sub:{sub} dlvrd:{dlvrd} stat:{state} err:{err} text:{text}",
    "short": "id:{id} stat:{state}",
    "no_text": "id:{id} sub:{sub} dlvrd:{dlvrd} submit date:{submit} done date:{done} stat:{state} err:{err}",
    "long_states": _STANDARD.replace("{state}", "{State}"),
    "capitals": _STANDARD.replace("id:", "Id:").replace("stat:", "Stat:").replace("text:", "Text:"),
    "equals": _STANDARD.replace(":", "="),
    "blanks": _STANDARD.replace(":", ": "),
    "commas": _STANDARD.replace(" s", ", s").replace(" d", ", d").replace(" e", ", e").replace(" t", ", t"),
    "shuffled": "stat:{state} err:{err} id:{id} done date:{done} submit date:{submit} dlvrd:{dlvrd}",
    "quoted": 'id:"{id}" sub:{sub} dlvrd:{dlvrd} stat:{state} err:{err} text:"{text}"',
    "nul": _STANDARD + "\0",
    "garbage": _STANDARD + "\0\x7f\x01@@",
    "no_id": "sub:{sub} dlvrd:{dlvrd} submit date:{submit} done date:{done} stat:{state} err:{err}",
    "no_state": "id:{id} sub:{sub} dlvrd:{dlvrd} submit date:{submit} done date:{done} err:{err}",
    "empty": "",
}

_VIETNAM: Final = timezone(timedelta(hours=7))


def written(shape: str, submitted_at: float, now: float, **fields: Any) -> str:
    """A receipt's text. Times are seconds since 1970. Raises KeyError for a field nobody knows."""
    submit, submit12, submit14 = _dates(int(submitted_at))
    done, done12, done14 = _dates(int(now))
    state = fields["state"]
    return SHAPES.get(shape, shape).format(
        submit=submit,
        submit12=submit12,
        submit14=submit14,
        done=done,
        done12=done12,
        done14=done14,
        State=_LONG.get(state, state.lower()),
        **fields,
    )


@lru_cache(maxsize=4096)
def _dates(second: int) -> tuple[str, str, str]:
    at = datetime.fromtimestamp(second, UTC).astimezone(_VIETNAM)
    whole = f"{at:%Y%m%d%H%M%S}"
    return whole[2:12], whole[2:], whole
