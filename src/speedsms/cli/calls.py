"""`voice`, `mms`, `status`, `otp …`: one call of the API each."""

import sys
from datetime import datetime
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from speedsms.cli.connection import PLAIN, Connection, command
from speedsms.cli.exits import REFUSED
from speedsms.cli.terminal import VIETNAM, say, show, table, vnd
from speedsms.cli.text import counted
from speedsms.results import Sent
from speedsms.wire import Progress

To = Annotated[str, Parameter(help="A number as people write it: 0912345678.")]
Numbers = Annotated[str, Parameter(help="Numbers as people write them: 0912345678.")]
Key = Annotated[
    str | None, Parameter(help="Idempotency-Key: the same key twice sends once. Else a fresh one.")
]
SendAt = Annotated[
    datetime | None,
    Parameter(help="When, as 2026-12-31T08:00, in Vietnam's time unless it names a zone; else now."),
]
Validity = Annotated[int | None, Parameter(name="--validity", help="Seconds after which it is not sent.")]
Reference = Annotated[str | None, Parameter(help="Your own name for it; comes back in webhooks.")]
AppId = Annotated[str, Parameter(help="The application at the service.")]


@command
def voice(
    to: To,
    code: Annotated[str, Parameter(help="The digits that are read out, or a text with them.")],
    *,
    send_at: SendAt = None,
    validity: Validity = None,
    reference: Reference = None,
    key: Key = None,
    options: Connection = PLAIN,
) -> None:
    with options.client() as client:
        sent = client.voice(
            to, code, send_at=zoned(send_at), validity_s=validity, reference=reference, key=key
        )
    show_sent(options, sent)


@command
def mms(
    *to: Numbers,
    text: Annotated[str, Parameter(help="The text beside the picture.")],
    link: Annotated[str, Parameter(help="Where the picture is, as an https URL.")],
    sender: Annotated[str, Parameter(help="A registered brandname.")],
    key: Key = None,
    options: Connection = PLAIN,
) -> None:
    with options.client() as client:
        show_sent(options, client.send_mms(to, text, link, sender=sender, key=key))


def zoned(send_at: datetime | None) -> datetime | None:
    """A time without a zone is Vietnam's."""
    return send_at.replace(tzinfo=VIETNAM) if send_at and not send_at.tzinfo else send_at


def show_sent(options: Connection, sent: Sent) -> None:
    """What the service accepted."""
    data = {
        "tran_id": sent.tran_id,
        "total_sms": sent.total_sms,
        "total_vnd": sent.total_vnd,
        "parts": sent.parts,
        "invalid_phones": options.phones(sent.invalid_phones),
        "notices": sent.notices,
        "replayed": sent.replayed,
        "key": sent.key,
    }
    line = f"request {sent.tran_id}: {counted(sent.total_sms, 'message')}, {vnd(sent.total_vnd)}"
    lines = [line + ", accepted before and not sent again" * sent.replayed]
    if sent.invalid_phones:
        lines.append(f"invalid: {', '.join(options.phones(sent.invalid_phones))}")
    show(options, data, lines=lines)


@command
def status(
    tran_id: Annotated[int, Parameter(help="The number of the request, as send shows it.")],
    *,
    wait: Annotated[
        float, Parameter(validator=Number(gte=0), help="Seconds to wait until all are delivered or failed.")
    ] = 0,
    options: Connection = PLAIN,
) -> None:
    """Exit code 5: not all are final within `--wait`."""
    with options.client() as client:
        found = client.wait(tran_id, within_s=wait) if wait else client.status(tran_id)
    rows = [{"phone": options.phone(one.phone), "progress": _progress(one.progress)} for one in found]
    show(options, rows, lines=table(rows))


def _progress(progress: Progress | int) -> str:
    return progress.name.lower() if isinstance(progress, Progress) else str(progress)


def _with_pin(_type: Any, text: str) -> None:
    if "{pin_code}" not in text:
        raise ValueError("the text needs {pin_code} where the PIN is to stand")


@command
def otp_start(
    to: To,
    *,
    text: Annotated[
        str, Parameter(validator=_with_pin, help="The text, with {pin_code} where the PIN stands.")
    ],
    app_id: AppId,
    key: Key = None,
    options: Connection = PLAIN,
) -> None:
    with options.client() as client:
        sent = client.create_pin(to, text, app_id=app_id, key=key)
    data = {"tran_id": sent.tran_id, "price_vnd": sent.price_vnd, "parts": sent.parts, "key": sent.key}
    show(options, data, lines=[f"request {sent.tran_id}: a PIN is on its way, {vnd(sent.price_vnd)}"])


@command
def otp_check(
    phone: To,
    pin_code: Annotated[str, Parameter(help="What somebody typed.")],
    *,
    app_id: AppId,
    options: Connection = PLAIN,
) -> None:
    """Exit code 0: right. 1: wrong."""
    with options.client() as client:
        check = client.verify_pin(phone, pin_code, app_id=app_id)
    data = {"verified": check.verified, "remaining_attempts": check.remaining_attempts}
    show(options, data, lines=["verified" if check else "not verified"])
    if not check:
        say(f"the PIN is wrong or has expired; {check.remaining_attempts} attempts are left")
        sys.exit(REFUSED)
