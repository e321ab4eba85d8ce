"""The state of a fake gateway: accounts, prices, messages, a clock that can be moved, seeded randomness."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from threading import Condition, RLock
from typing import Final, NamedTuple

from speedsms.contract.carriers import Carrier
from speedsms.contract.content import ContentRules
from speedsms.contract.credentials import WrongLimit
from speedsms.contract.pin import Application
from speedsms.contract.price import Prices
from speedsms.contract.request import Reply
from speedsms.contract.simulation import Script
from speedsms.testing.records import Account, Message, Outbox, Post, Token
from speedsms.wire import Code, Kind, Reason, SmsType

TOKEN: Final = "fake-gateway-token"  # noqa: S105 - it opens nothing but the fake
TEST_TOKEN: Final = "fake-gateway-test-token"  # noqa: S105 - see above
APP_ID: Final = "fake-app"
PRICES: Final = Prices(
    {SmsType(n): vnd for n, vnd in enumerate((400, 250, 300, 350, 100, 270, 320, 330), 1)}
    | {Kind.VOICE: 400, Kind.MMS: 500}
)


class Fault(NamedTuple):
    """What becomes of a coming call; accepted: it is carried out, and only its answer goes wrong."""

    answer: Reply | tuple[Code, Reason] | type[OSError]
    accepted: bool


class Due(NamedTuple):
    """A coming event: a TP-Status, an incoming text, or None when the carrier takes the message."""

    at: datetime
    order: int
    message: Message
    what: int | str | None
    repeats: int = 1


class Book:
    """now: the clock stands there until `advance`; None: it follows the system's, and can be moved too."""

    def __init__(
        self,
        accounts: Sequence[Account] = (),
        *,
        prices: Prices = PRICES,
        portability: Mapping[str, Carrier] | None = None,
        content: ContentRules | None = None,
        get_send: bool = True,
        now: datetime | None = None,
        seed: int = 0,
    ) -> None:
        self.accounts = list(accounts) or [
            Account(tokens=[Token(TOKEN), Token(TEST_TOKEN, test=True)], apps=[Application(APP_ID)])
        ]
        self.prices = prices
        self.portability = portability or {}
        self.content = content or ContentRules()
        self.get_send = get_send
        self.messages = Outbox()
        self.tran_ids = count(1)
        self.random = Random(seed)  # noqa: S311 - a fake repeats itself
        self.pin_key = self.random.randbytes(32)
        self.changed = Condition()  # guards everything here; notified of every message
        self.posts: list[Post] = []
        self.scripts: dict[str, tuple[Script, int | None]] = {}
        self.faults: list[Fault] = []
        self.due: list[Due] = []
        self.order = count()
        self.posting = RLock()  # one webhook at a time
        self.early = False  # a report comes before the reply to the call that is being answered
        self.wrong = WrongLimit()
        self.unknown: set[tuple[str, str]] = set()  # calls whose outcome a magic number left open
        self.told: dict[str, Message] = {}  # the messages whose code was asked for
        self._stands_at = now
        self._moved = timedelta()

    @property
    def account(self) -> Account:
        """The first account, which most tests have alone."""
        return self.accounts[0]

    @property
    def token(self) -> str:
        """The first token of the first account."""
        return self.account.tokens[0].token

    def now(self) -> datetime:
        """The fake's clock, with its time zone."""
        return (self._stands_at or datetime.now(UTC)) + self._moved

    def move(self, seconds: float) -> None:
        """Move the clock forward without playing what becomes due."""
        self._moved += timedelta(seconds=seconds)
