"""A request we refuse. What the world refuses is a channel's outcome and lives with the channels."""

from collections.abc import Sequence

from speedsms.wire import Code, Reason


class Declined(Exception):  # noqa: N818  a refusal is an answer, not an error of ours
    """Nothing was stored and nothing is charged; the writer turns this into the bytes of protocol §6.1.

    `detail` says in plain words what to correct; it is for people (log, dashboard) and never on the wire.
    """

    def __init__(
        self, code: Code, reason: Reason, detail: str = "", *, invalid_phones: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{code} {reason}" + (f": {detail}" if detail else ""))
        self.code = code
        self.reason = reason
        self.detail = detail
        self.invalid_phones = tuple(invalid_phones)
