"""What each vendor endpoint does with an authenticated call: steps 6 to 12 of protocol §3, in order."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from speedsms.contract import read, write
from speedsms.contract.declined import Declined
from speedsms.contract.endpoints import SCOPES, Call, key, tran_id
from speedsms.contract.request import Reply
from speedsms.gateway.flow.accept import Acceptor, InFlight, OutcomeUnknown, Reused
from speedsms.gateway.store import views
from speedsms.gateway.store.accounts import Caller
from speedsms.gateway.store.db import Database
from speedsms.gateway.web.api.multipart import fields
from speedsms.wire import Code, Endpoint, Reason


class Routes:
    """The endpoints. `answer` raises Declined, and what is no reply: Overloaded, ConnectionReset,
    DatabaseAway.
    """

    def __init__(self, db: Database, acceptor: Acceptor, now: Callable[[], datetime]) -> None:
        self._db = db
        self._acceptor = acceptor
        self._now = now
        self._served: Mapping[Endpoint, Callable[[Call, Caller], Awaitable[Reply]]] = {
            Endpoint.USER_INFO: self._info,
            Endpoint.SMS_SEND: self._send,
            Endpoint.SMS_STATUS: self._status,
        }

    async def answer(self, call: Call, caller: Caller) -> Reply:
        try:
            self._admit(call.endpoint, caller)
            return await self._served[call.endpoint](call, caller)
        except InFlight:
            return write.IN_FLIGHT
        except Reused:
            return write.REUSED
        except OutcomeUnknown:
            return write.UNKNOWN

    def _admit(self, endpoint: Endpoint, caller: Caller) -> None:
        """Step 6. Endpoints of later releases answer as an API that is not enabled."""
        if caller.account.blocked:
            raise Declined(Code.ACCOUNT_BLOCKED, Reason.ACCOUNT_BLOCKED)
        if not caller.account.api_enabled:
            raise Declined(Code.API_NOT_ALLOWED, Reason.API_NOT_ALLOWED)
        if SCOPES[endpoint] not in caller.token.scopes:
            raise Declined(Code.API_NOT_ALLOWED, Reason.SCOPE_MISSING)
        if endpoint not in self._served:
            raise Declined(Code.API_NOT_ALLOWED, Reason.API_NOT_ALLOWED, "not part of this release")

    async def _info(self, _: Call, caller: Caller) -> Reply:
        return write.info(caller.account.email, await views.balance(self._db, caller.account.id))

    async def _status(self, call: Call, caller: Caller) -> Reply:
        number = tran_id(call.argument)
        messages = await views.status(self._db, caller.account, number) if number else None
        if messages is None:
            # Unknown, malformed and another account's are one answer (protocol §5.6).
            raise Declined(Code.BAD_PARAMETERS, Reason.UNKNOWN_TRANSACTION)
        return write.status(messages)

    async def _send(self, call: Call, caller: Caller) -> Reply:
        known = None
        if call.keys:
            known = key(call)
            if known is None:
                return write.BAD_KEY
            replayed = await self._acceptor.replay(caller, known)
            if replayed is not None:
                return replayed
        command = read.send(
            call.query,
            call.body if call.method == "POST" else b"",
            call.content_type,
            now=self._now(),
            multipart=fields,
            percent_decode=caller.account.percent_decode,
            raw_utf8_101=caller.account.raw_utf8_101,
        )
        return await self._acceptor.send(caller, command, known, write.accepted)
