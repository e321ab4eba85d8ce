"""The fake gateway in the place of the real one: the same cases, the same comparison, another adapter."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from speedsms.contract.carriers import Carrier
from speedsms.contract.content import ContentRules
from speedsms.contract.pin import Application
from speedsms.contract.price import Prices
from speedsms.contract.senders import Sender, SenderKind, SenderStatus
from speedsms.testing.fake import FakeGateway
from speedsms.testing.records import Account, Message, Token
from speedsms.testing.server import Server
from speedsms.wire import Kind, Progress, SmsType

PROGRESS = {
    "held": Progress.PENDING,
    "queued": Progress.PENDING,
    "delivered": Progress.DELIVERED,
    **dict.fromkeys(("sending", "sent", "unknown"), Progress.SENT),
    **dict.fromkeys(("failed", "expired", "cancelled"), Progress.FAILED),
}
FAULTS = {
    "db_unavailable": {"code": "500"},
    "overloaded": {"status": 429},
    "commit_outcome_unknown": {"status": 500, "accepted": True},
}


class Paused(FakeGateway):
    """Nothing is played after acceptance, and every call comes from one address."""

    client_ip = ""

    def settle(self) -> None:
        pass

    def answer(self, method, target, headers, body=b"", client_ip=""):  # noqa: ARG002 - the case says it
        return super().answer(method, target, headers, body, self.client_ip)


class FakeWorld:
    """One server; a fake of its own for each case."""

    def __init__(self, folder: Path) -> None:
        self.given = json.loads((folder / "preconditions.json").read_text("utf-8"))
        self.fake = Paused()
        self.server = Server(self.fake)
        self.port = self.server.server_address[1]

    @property
    def client_ip(self) -> str:
        return self.fake.client_ip

    @client_ip.setter
    def client_ip(self, address: str) -> None:
        self.fake.client_ip = address

    def advance(self, seconds: float) -> None:
        self.fake.move(seconds)

    def begin(self, given: dict[str, Any]) -> tuple[int, int]:
        """What was there before the first step: the balance, and how many messages."""
        prices = self.given["prices"]
        self.fake = self.server.gateway = Paused(
            [account_of(one) for one in self.given["accounts"]],
            prices=Prices(
                {SmsType(int(n)): vnd for n, vnd in prices["sms_type"].items()}
                | {Kind.VOICE: prices["voice"], Kind.MMS: prices["mms"]},
                {
                    (SmsType(row["sms_type"]), Carrier[row["carrier"].upper()]): row["price_vnd"]
                    for row in prices["overrides"]
                },
                prices["foreign"],
            ),
            portability={row["e164"]: Carrier[row["carrier"].upper()] for row in self.given["portability"]},
            content=ContentRules(optout_text=self.given["ads_optout_text"]),
            now=datetime.fromisoformat(given.get("now", self.given["clock"])),
        )
        self.client_ip = given.get("client_ip", self.given["client_ip"])
        account = self.account(given["account"])
        for name, value in given.get("set", {}).items():
            self._change(account, name, value)
        for request in given.get("messages", ()):
            self._store(self.account(request.get("account", given["account"])), request)
        for ad in given.get("ads_sent", ()):
            account.ads_sent.append((self.fake.now() - timedelta(seconds=ad["age_s"]), ad["to"]))
        return account.balance_vnd, len(self.fake.messages)

    def account(self, name: str) -> Account:
        return next(account for account in self.fake.accounts if account.name == name)

    def balance_vnd(self, account: str) -> int:
        return self.account(account).balance_vnd

    def stored(self, account: str, start: tuple[int, int]) -> list[dict[str, Any]]:
        return [
            described(message, self.fake.now())
            for message in self.fake.messages[start[1] :]
            if message.account.name == account
        ]

    def _change(self, account: Account, name: str, value: Any) -> None:
        if name == "get_send":
            self.fake.get_send = value
        else:
            owner = account if hasattr(account, name) else account.tokens[0]
            setattr(owner, name, value)

    def _store(self, account: Account, request: dict[str, Any]) -> None:
        for to in request["recipients"]:
            message = message_of(account, request["tranId"], to["e164"], to["entry"], self.fake.now())
            message.status = PROGRESS[to["state"]]
            self.fake.messages.append(message)

    @asynccontextmanager
    async def fault(self, name: str | None) -> AsyncIterator[None]:
        if name:
            self.fake.fail_next(**FAULTS[name])
        yield

    @asynccontextmanager
    async def held_up(self, account: str, requests: list[bytes]) -> AsyncIterator[None]:  # noqa: ARG002 - as the gateway's
        """The fake answers one call at a time: that another one runs has to be scripted."""
        if requests:
            self.fake.fail_next(status=409)
        yield


def account_of(given: dict[str, Any]) -> Account:
    named = ("tokens", "senders", "pin_apps", "suppressed", "blocked_numbers")
    return Account(
        **{name: value for name, value in given.items() if name not in named},
        tokens=[
            Token(**one | {"scopes": frozenset(one["scopes"]), "allow_ip": tuple(one["allow_ip"])})
            for one in given["tokens"]
        ],
        senders=[
            Sender(
                SenderKind(one["kind"]),
                one["id"],
                SenderStatus(one["status"]),
                one.get("gsm_only", False),
                one.get("class") == "ad",
                one.get("two_way", False),
                one.get("mms", False),
            )
            for one in given["senders"]
        ],
        apps=[
            Application(
                **{name: value for name, value in one.items() if name not in ("channel", "sms_type")},
                sms_type=SmsType(one["sms_type"]) if one["sms_type"] else None,
            )
            for one in given["pin_apps"]
        ],
        suppressed=set(given["suppressed"]),
        blocked_numbers=set(given["blocked_numbers"]),
    )


def message_of(account: Account, tran_id: int, e164: str, entry: str, at: datetime, **more: Any) -> Message:
    """A message that was not sent through the wire."""
    given = {name: None for name in Message.__dataclass_fields__ if name not in ("status", "sequence")}
    known = {"account": account, "tran_id": tran_id, "kind": Kind.SMS, "e164": e164, "entry": entry}
    return Message(**given | known | {"due_at": at, "price_vnd": 250, "test": False} | more)


def described(message: Message, now: datetime) -> dict[str, Any]:
    return {
        "to": message.e164,
        "carrier": message.carrier,
        "sms_type": message.sms_type and int(message.sms_type),
        "sender": message.sender,
        "text": message.content,
        "encoding": str(message.encoding),
        "units": message.units,
        "parts": message.parts,
        "price_vnd": message.price_vnd,
        "class": message.lane.name.lower(),
        "validity_s": message.validity_s,
        "state": "held" if message.due_at > now else "queued",
        "link": message.link,
    }
