"""The one shape of a refusal to start: a reason and what to do about it, one line each (stack.md EP-12)."""


class StoreFailed(Exception):  # noqa: N818 - the house words are refuse and fail, and the texts are for operators
    """`reason` says what is wrong, `fix` what the operator can do; `str()` is both in one line."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}: {fix}")
        self.reason = reason
        self.fix = fix
