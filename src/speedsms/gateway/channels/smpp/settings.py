"""Settings of a channel `smpp` (channels §3.2), checked at load with the path of the bad key (CH-11)."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from speedsms.contract.senders import Lane
from speedsms.gateway.channels.base import Reason, settings_from

_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\s:\[\]]+)):(?P<port>\d{1,5})")
_CODE: Final = re.compile(r"0[xX][0-9A-Fa-f]{1,8}|[0-9]{1,10}")
SECRET: Final = ("env:", "file:")
_LANES: Final = tuple(lane.name.lower() for lane in Lane)
# Octets of the C-octet strings of a bind without their NUL (SMPP 3.4 §5.2); a carrier may ignore the limit
# of passwords.
_WIDTHS: Final = {"system_id": 15, "password": 8, "system_type": 12, "address_range": 40, "service_type": 5}
_LONG_PASSWORD: Final = 64


def _doc(description: str, *, secret: bool = False, shown: str = "", **limits: Any) -> Meta:
    """What a setting is for. `secret`: it may hold a password; `shown`: its default in words."""
    return Meta(description=description, extra={"secret": secret, "shown": shown}, **limits)


_Octet: TypeAlias = Annotated[int, Meta(ge=0, le=255)]
_TonNpi: TypeAlias = tuple[_Octet, _Octet]
_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]


class Tlv(Struct, frozen=True, forbid_unknown_fields=True):
    """One parameter that the carrier wants on every submit_sm."""

    tag: Annotated[int, _doc("Its number.", ge=1, le=0xFFFF)]
    value: Annotated[str | int, _doc("Its value; of type `hex` in hexadecimal digits.")]
    type: Annotated[
        Literal["text", "cstring", "hex", "int8", "int16", "int32"],
        _doc("How the value is written: `cstring` is a text with a NUL behind it."),
    ] = "text"

    @property
    def octets(self) -> bytes:
        """Raises ValueError where the value is none of its type."""
        if self.type.startswith("int"):
            try:
                return int(self.value).to_bytes(int(self.type[3:]) // 8, "big")
            except OverflowError:
                raise ValueError(f"{self.value} is no {self.type}") from None
        if self.type == "hex":
            return bytes.fromhex(str(self.value))
        return str(self.value).encode("latin-1") + (b"\0" if self.type == "cstring" else b"")


class Settings(Struct, frozen=True, kw_only=True):
    """One contract with one carrier."""

    hosts: Annotated[
        tuple[str, ...], _doc("`host:port` of the carrier, tried in this order; binds are spread over them.")
    ]
    system_id: Annotated[str, _doc("Name to bind with.")]
    password: Annotated[str, _doc("Its password, `env:NAME` or `file:/path`.", secret=True)] = ""
    system_type: Annotated[str, _doc("What the carrier calls our kind of system, often empty.")] = ""
    address_range: Annotated[str, _doc("Numbers whose incoming messages we ask for, often empty.")] = ""
    long_password: Annotated[bool, _doc("Allow passwords of up to 64 octets instead of 8.")] = False
    local_addr: Annotated[str, _doc("Our source address, for carriers that list it.")] = ""
    bind: Annotated[
        Literal["transceiver", "pair"], _doc("`pair` is a transmitter and a receiver side by side.")
    ] = "transceiver"
    binds: Annotated[int, _doc("Connections (pairs of them with `pair`).", ge=1, le=20)] = 1
    interface_version: Annotated[Literal[0x33, 0x34, 0x50], _doc("51, 52 or 80 for 3.3, 3.4, 5.0.")] = 0x34

    tls: Annotated[bool, _doc("TLS 1.2 or newer; the certificate is always verified.")] = False
    ca_file: Annotated[str, _doc("PEM file of who signs the carrier's certificate.", shown="system")] = ""
    server_name: Annotated[str, _doc("Name in the carrier's certificate.", shown="the host")] = ""
    client_cert: Annotated[str, _doc("PEM file with our certificate and its key.")] = ""
    pin_sha256: Annotated[
        str,
        _doc(
            "SHA-256 of the carrier's certificate (DER) in hexadecimal digits.",
            pattern="^([0-9a-fA-F]{64})?$",
        ),
    ] = ""

    window: Annotated[int, _doc("Parts without answer on one connection.", ge=1, le=10_000)] = 10
    unrecorded: Annotated[
        int,
        _doc(
            "Parts started and not recorded yet, per connection: how many a crash may send twice.",
            shown="window",
            ge=0,
            le=10_000,
        ),
    ] = 0
    rate: Annotated[
        float, _doc("Parts per second of the whole channel; 0 is no limit.", ge=0, le=100_000)
    ] = 10.0
    enquire_link_s: Annotated[_Seconds, _doc("Silence before a probe.")] = 30.0
    enquire_timeout_s: Annotated[_Seconds, _doc("Wait for the answer to a probe.")] = 10.0
    connect_s: Annotated[_Seconds, _doc("Wait for a connection, TLS included.")] = 10.0
    bind_s: Annotated[_Seconds, _doc("Wait for the answer to a bind.")] = 10.0
    submit_timeout_s: Annotated[
        _Seconds, _doc("Wait for the answer to a part; then its fate is unknown.")
    ] = 60.0
    unbind_s: Annotated[_Seconds, _doc("Wait for the answer to an unbind.")] = 5.0
    reconnect_s: Annotated[
        tuple[_Seconds, _Seconds], _doc("First and longest wait before the next bind; it doubles.")
    ] = (1.0, 60.0)

    source_ton_npi: Annotated[_TonNpi | None, _doc("TON and NPI of every sender.", shown="by its form")] = (
        None
    )
    dest_ton_npi: Annotated[_TonNpi | None, _doc("TON and NPI of recipients.", shown="by `dest_format`")] = (
        None
    )
    dest_format: Annotated[
        Literal["international", "national", "plus"], _doc("`84912…`, `0912…` or `+84912…`.")
    ] = "international"

    alphabet: Annotated[
        Literal["gsm7", "ascii", "latin1"], _doc("What data_coding 0 means to this carrier.")
    ] = "gsm7"
    gsm_packing: Annotated[Literal["unpacked", "packed"], _doc("One septet per octet, or 7 bits each.")] = (
        "unpacked"
    )
    dcs_gsm: Annotated[_Octet, _doc("data_coding of texts in `alphabet`.")] = 0
    dcs_ucs2: Annotated[_Octet, _doc("data_coding of UCS-2.")] = 8
    dcs_binary: Annotated[_Octet, _doc("data_coding of binary content.")] = 4
    concat: Annotated[
        Literal["udh8", "udh16", "sar", "payload", "none"],
        _doc("Long messages: header with 8- or 16-bit reference, parameters, one whole, or refused."),
    ] = "udh8"

    receipts: Annotated[Literal["final", "failures", "none"], _doc("Which receipts to ask for.")] = "final"
    intermediate: Annotated[bool, _doc("Ask for intermediate notifications too.")] = False
    receipt_per: Annotated[
        Literal["part", "message"], _doc("`message`: one receipt stands for all parts.")
    ] = "part"
    id_form: Annotated[
        Literal["auto", "exact", "plain", "hex_dec", "dec_hex"],
        _doc("How message ids of receipts are written beside those of responses."),
    ] = "auto"
    acceptd_final: Annotated[bool, _doc("ACCEPTD means delivered.")] = False
    unknown_state: Annotated[
        Literal["failed", "wait", "delivered"], _doc("What UNKNOWN in a receipt means.")
    ] = "failed"
    no_receipt_status: Annotated[
        int, _doc("Status of an accepted message without final receipt.", ge=0, le=127)
    ] = 98
    receipt_tz: Annotated[str, _doc("Zone of dates in receipts.")] = "Asia/Ho_Chi_Minh"
    sniff_receipts: Annotated[
        bool, _doc("Take what reads like a receipt for one; a phone could forge it.")
    ] = False

    validity: Annotated[
        Literal["relative", "absolute", "none"], _doc("How the remaining life is written.")
    ] = "relative"
    user_message_reference: Annotated[bool, _doc("Send the message's number in TLV 0x0204.")] = False
    service_type: Annotated[str, _doc("Service agreed with the carrier, often empty.")] = ""
    priority_flag: Annotated[
        int | dict[str, int], _doc("Priority of all messages, or by lane: `{otp = 1}`.")
    ] = 0
    protocol_id: Annotated[_Octet, _doc("protocol_id of all messages.")] = 0
    tlv: Annotated[tuple[Tlv, ...], _doc("Parameters on every message: tag, type, value.")] = ()
    status_map: Annotated[
        dict[str, Reason], _doc("The carrier's own command_status (`0x45b`) → reason of refusal.")
    ] = {}
    err_map: Annotated[dict[str, int], _doc("`err` of a receipt → status.")] = {}

    def __repr__(self) -> str:
        return (
            f"Settings({self.system_id} at {', '.join(self.hosts)})"  # the password stays out of every line
        )


def settings_of(raw: Mapping[str, Any]) -> Settings:
    """Settings from their stored form. Raises ValueError with the path of the bad key (CH-11)."""
    settings = settings_from(raw, Settings, "an smpp channel")
    for path, fault in _faults(settings):
        raise ValueError(f"{path}: {fault}")
    return settings


def _faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """What no type can say: pairs of the bad key's path and its fix."""
    if not settings.hosts:
        yield "hosts", "name at least one host:port"
    for i, host in enumerate(settings.hosts):
        found = _HOST.fullmatch(host)
        if not found or not 0 < int(found["port"]) < 65536:
            yield f"hosts[{i}]", f"{host!r} is not host:port, as in smpp.example.net:2775"
    for name, width in {**_WIDTHS, "password": width_of_password(settings)}.items():
        text = getattr(settings, name)
        if name == "password" and text.startswith(SECRET):
            continue  # what stands behind it is checked when the channel is built
        if not text.isascii() or len(text) > width:
            yield name, f"at most {width} ASCII characters"
    for lane, flag in _flags(settings):
        if lane not in _LANES or not 0 <= flag <= 255:
            yield f"priority_flag.{lane}", f"0 to 255 for one of {', '.join(_LANES)}"
    for code in settings.status_map:
        if not _CODE.fullmatch(code):
            yield f"status_map.{code}", "the key is a command_status, as 0x45b or 1115"
    for err, status in settings.err_map.items():
        if not 0 <= status < 128:
            yield f"err_map.{err}", "a status is 0 to 127"
    try:
        ZoneInfo(settings.receipt_tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield "receipt_tz", "a name such as Asia/Ho_Chi_Minh or UTC"
    for i, tlv in enumerate(settings.tlv):
        try:
            _ = tlv.octets
        except ValueError as error:
            yield f"tlv[{i}].value", str(error)


def _flags(settings: Settings) -> list[tuple[str, int]]:
    flag = settings.priority_flag
    return list(flag.items()) if isinstance(flag, dict) else [(lane, flag) for lane in _LANES]


def priorities(settings: Settings) -> tuple[int, ...]:
    """priority_flag by lane."""
    flags = dict(_flags(settings))
    return tuple(flags.get(lane, 0) for lane in _LANES)


def statuses(settings: Settings) -> dict[int, Reason]:
    """status_map with its keys as numbers."""
    return {
        int(code, 16 if code[:2] in ("0x", "0X") else 10): reason
        for code, reason in settings.status_map.items()
    }


def width_of_password(settings: Settings) -> int:
    return _LONG_PASSWORD if settings.long_password else _WIDTHS["password"]


def host_and_port(address: str) -> tuple[str, int]:
    """`smpp.example.net:2775` or `[2001:db8::1]:2775` in its two parts."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
