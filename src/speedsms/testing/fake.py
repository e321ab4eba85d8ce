"""The fake gateway: what answers, what is remembered, what is scripted."""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from typing import Final, TypeAlias

from speedsms.contract import credentials, pin, read, write
from speedsms.contract.declined import Declined
from speedsms.contract.endpoints import (
    KEY_LIFE,
    MAX_BODY,
    MAX_FIELDS,
    MAX_HEADERS,
    MAX_TARGET,
    METHODS,
    SCOPES,
    Call,
    find,
    key,
    octets,
    tran_id,
)
from speedsms.contract.request import Reply
from speedsms.numbers import magic
from speedsms.testing.accept import Answered, Caller, app_of, number_of, replayed, take, wanted
from speedsms.testing.book import Fault
from speedsms.testing.multipart import fields
from speedsms.testing.outcomes import Outcomes
from speedsms.testing.records import Kept, Message, newest
from speedsms.wire import Code, Endpoint, Reason

_MINUTE: Final = timedelta(seconds=60)
_RESET: Final = 13  # the magic number after whose acceptance the connection is cut
_ALWAYS: Final = (
    ("Content-Type", "application/json; charset=UTF-8"),
    ("Cache-Control", "no-store"),
    ("X-Speedsms-Contract", "1"),
)
_REASONS: Final = {
    Code.IP_LOCKED: Reason.IP_LOCKED,
    Code.ACCOUNT_BLOCKED: Reason.ACCOUNT_BLOCKED,
    Code.API_NOT_ALLOWED: Reason.API_NOT_ALLOWED,
    Code.BAD_PARAMETERS: Reason.BAD_CONTENT,
    Code.NUMBER_INVALID: Reason.NUMBER_INVALID,
    Code.NOT_SENDABLE: Reason.UNICODE_NOT_ALLOWED,
    Code.TOO_LONG: Reason.TOO_LONG,
    Code.BALANCE: Reason.BALANCE,
    Code.INTERNAL: Reason.INTERNAL,
}
_STATUSES: Final = {
    401: write.UNAUTHORIZED,
    409: write.IN_FLIGHT,
    422: write.REUSED,
    429: write.limited(1),
    500: write.UNKNOWN,
}

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class FakeGateway(Outcomes):
    """A SpeedSMS gateway in memory: it answers what the real one answers, and sends nothing.

    Accounts, prices and senders are what the arguments say; without them there is one account with a
    token, a test token, money, and a 2FA application `fake-app`. `url` is set while a server serves it.
    """

    url = ""

    # ------------------------------------------------------------ what a test asks for

    def fail_next(
        self,
        status: int | None = None,
        *,
        code: str | None = None,
        reason: str | None = None,
        reset: bool = False,
        timeout: bool = False,
        accepted: bool = False,
        times: int = 1,
    ) -> None:
        """Let the next calls fail: with an HTTP status, a refusal's code, a cut connection, or silence.

        accepted: the call is carried out first and only its answer is lost, which the client cannot know.
        """
        answer: Reply | tuple[Code, Reason] | type[OSError]
        if code is not None:
            answer = Code(code), Reason(reason) if reason else _REASONS[Code(code)]
        elif status is not None:
            phrase = HTTPStatus(status)
            answer = _STATUSES.get(status) or write.framework(phrase, f"{phrase.phrase}.")
        elif reset or timeout:
            answer = ConnectionResetError if reset else TimeoutError
        else:
            raise ValueError("say how: a status, a code, reset=True or timeout=True")
        with self.changed:
            self.faults += [Fault(answer, accepted)] * times

    def wait_otp(self, phone: str, within_s: float = 5.0) -> str:
        """The code in the newest message or call to a phone; waits until one arrives.

        Each message is told once, so that a second code is never mistaken for the first. Raises
        AssertionError.
        """

        def arrived() -> Message | None:
            message = newest(self.messages, phone)
            return message if message and message.otp and message is not self.told.get(message.e164) else None

        with self.changed:
            message = self.changed.wait_for(arrived, within_s)
            if not message or not message.otp:
                raise AssertionError(
                    f"no new code for {phone} within {within_s:g} s; {self.messages.listed()}"
                )
            self.told[message.e164] = message
            return message.otp

    # ------------------------------------------------------------ the wire

    def answer(
        self, method: str, target: bytes, headers: Headers, body: bytes = b"", client_ip: str = "127.0.0.1"
    ) -> Reply:
        """The reply to one request; to HEAD with the body that GET has.

        target: undecoded, as it stands in the request line. Raises ConnectionResetError and TimeoutError
        where the call gets no answer.
        """
        lines = [(name.lower(), value.strip()) for name, value in headers]
        with self.changed:
            reply = self._beyond_limits(target, lines, body) or self._routed(
                method, target, lines, body, client_ip
            )
            early, self.early = self.early, False
        if early:
            self.settle()
        request_id = ("X-Request-Id", f"fake-{next(self.order)}")
        return Reply(reply.status, reply.body, (*_ALWAYS, request_id, *reply.headers))

    def _beyond_limits(self, target: bytes, headers: Headers, body: bytes) -> Reply | None:
        """Step 1: what is too large or no HTTP of ours (protocol §1.2)."""
        if len(target) > MAX_TARGET:
            return unspecified(HTTPStatus.REQUEST_URI_TOO_LONG)
        if not target.isascii():
            return unspecified(HTTPStatus.BAD_REQUEST)
        if len(headers) > MAX_FIELDS or octets(headers) > MAX_HEADERS:
            return unspecified(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if len(body) > MAX_BODY:
            return write.TOO_LARGE
        encodings = [value.lower() for name, value in headers if name == b"content-encoding"]
        return write.ENCODED if set(encodings) - {b"identity", b""} else None

    def _routed(self, method: str, target: bytes, headers: Headers, body: bytes, client_ip: str) -> Reply:
        """Steps 2 and 3: path, method, credentials."""
        path, _, query = target.partition(b"?")
        found = find(path)
        if found is None:
            return write.NOT_FOUND
        endpoint, argument = found
        methods = METHODS[endpoint] if self.get_send or endpoint is not Endpoint.SMS_SEND else ("POST",)
        if method == "OPTIONS":
            return write.allowed(methods)
        if method not in methods:
            return write.wrong_method(methods)
        media = next((value for name, value in headers if name == b"content-type"), b"")
        keys = tuple(value for name, value in headers if name == b"idempotency-key")
        call = Call(endpoint, method, argument, query, media, keys, body)
        try:
            caller = self._caller([value for name, value in headers if name == b"authorization"], query)
        except credentials.WrongCredentials:
            wait_s = self.wrong.wait_s(client_ip, self.now().timestamp())
            return write.limited(wait_s) if wait_s else write.UNAUTHORIZED
        return self._counted(call, caller, client_ip) if caller else write.UNAUTHORIZED

    def _caller(self, authorization: Sequence[bytes], query: bytes) -> Caller | None:
        secret, in_query = credentials.secret(authorization, query)
        if secret is None:
            return None
        for account in self.accounts:
            for token in account.tokens:
                if token.token.encode() == secret and (token.allow_query_token or not in_query):
                    return Caller(account, token)
        raise credentials.WrongCredentials

    def _counted(self, call: Call, caller: Caller, client_ip: str) -> Reply:
        """Steps 4 and 5: address, rate limit; and the scripted faults."""
        (account, token), now = caller, self.now()
        while account.hits and account.hits[0] <= now - _MINUTE:
            account.hits.popleft()
        if token.allow_ip and not credentials.inside(client_ip, token.allow_ip):
            reply = write.refused(call.endpoint, Code.IP_LOCKED, Reason.IP_LOCKED)
        elif len(account.hits) >= account.rate_limit:
            reply = write.limited(ceil((account.hits[0] + _MINUTE - now).total_seconds()))
        else:
            account.hits.append(now)
            reply = self._faulty(call, caller)
        reset_s = ceil((account.hits[0] + _MINUTE - now).total_seconds()) if account.hits else 0
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            reset_s = int(dict(reply.headers)["Retry-After"])
        rate = (
            ("X-Rate-Limit-Limit", str(account.rate_limit)),
            ("X-Rate-Limit-Remaining", str(max(0, account.rate_limit - len(account.hits)))),
            ("X-Rate-Limit-Reset", str(reset_s)),
        )
        return reply._replace(headers=(*reply.headers, *rate))

    def _faulty(self, call: Call, caller: Caller) -> Reply:
        fault = self.faults.pop(0) if self.faults else None
        if fault is None or fault.accepted:
            reply = self._allowed(call, caller)
        if fault is None:
            return reply
        if isinstance(fault.answer, Reply):
            return fault.answer
        if isinstance(fault.answer, type):
            raise fault.answer
        return write.refused(call.endpoint, *fault.answer)

    def _allowed(self, call: Call, caller: Caller) -> Reply:
        """Step 6, and the refusals of all that follow."""
        account, token = caller
        if account.blocked:
            return write.refused(call.endpoint, Code.ACCOUNT_BLOCKED, Reason.ACCOUNT_BLOCKED)
        if not account.api_enabled or SCOPES[call.endpoint] not in token.scopes:
            reason = Reason.SCOPE_MISSING if account.api_enabled else Reason.API_NOT_ALLOWED
            return write.refused(call.endpoint, Code.API_NOT_ALLOWED, reason)
        try:
            return self._endpoint(call, caller)
        except Answered as settled:
            return settled.reply
        except Declined as no:
            return write.refused(call.endpoint, no.code, no.reason, no.invalid_phones)

    def _endpoint(self, call: Call, caller: Caller) -> Reply:
        match call.endpoint:
            case Endpoint.USER_INFO:
                return write.info(caller.account.email, caller.account.balance_vnd)
            case Endpoint.SMS_STATUS:
                return self._status(call, caller)
            case Endpoint.PIN_VERIFY:
                return self._verify(call, caller)
        return self._keyed(call, caller)

    def _status(self, call: Call, caller: Caller) -> Reply:
        number = tran_id(call.argument)
        mine = [m for m in self.messages if m.tran_id == number and m.account is caller.account]
        if not mine:
            raise Declined(Code.BAD_PARAMETERS, Reason.UNKNOWN_TRANSACTION)
        return write.status([(message.shown, message.status) for message in mine])

    def _verify(self, call: Call, caller: Caller) -> Reply:
        account = caller.account
        asked = read.pin_verify(
            call.query, call.body, call.content_type, multipart=fields, raw_utf8_101=account.raw_utf8_101
        )
        app = app_of(account, asked.app_id)
        past = account.verifications.get((app.app_id, number_of(caller, asked.phone)), [])
        after, check = pin.checked(past[-1] if past else None, app, asked.pin, self.pin_key, self.now())
        past[-1:] = [after] if after else []
        return write.verified(asked.phone, asked.pin, check, strict=app.strict_verify)

    def _keyed(self, call: Call, caller: Caller) -> Reply:
        """Step 7, and what sends."""
        known = key(call) if call.keys else None
        if call.keys and known is None:
            return write.BAD_KEY
        kept = caller.account.kept.get((known.endpoint, known.key)) if known else None
        if known and kept and kept.at > self.now() - KEY_LIFE:
            return replayed(kept.reply) if kept.fingerprint == known.fingerprint else write.REUSED
        before = len(self.messages)
        reply = take(self, caller, call, wanted(self, caller, call))
        if known:
            caller.account.kept[known.endpoint, known.key] = Kept(self.now(), reply, known.fingerprint)
        accepted = self.messages[before:]
        for message in accepted:
            self.schedule(message)
        if any(message.test and magic(message.e164) == _RESET for message in accepted):
            raise ConnectionResetError
        return reply


def unspecified(status: HTTPStatus) -> Reply:
    """A limit's answer; of its body the contract only says that it is a framework's."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return write.TOO_LARGE
    return write.framework(status, f"{status.phrase}.")
