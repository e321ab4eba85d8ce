"""The channels of the settings' file: checked before anything starts, then put into the tables (CH-11)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from speedsms.gateway.channels import kinds
from speedsms.gateway.config import DeclaredChannel, SettingsFailed
from speedsms.gateway.store import declared, routing
from speedsms.gateway.store.admin import AdminFailed
from speedsms.gateway.store.db import Database

SECRET: Final = frozenset({"password", "secret", "token"})
ELSEWHERE: Final = ("env:", "file:")


def check(channels: Mapping[str, DeclaredChannel]) -> None:
    """Raises SettingsFailed with the path of the bad key."""
    for name, channel in channels.items():
        path = f"channels.{name}"
        try:
            kinds.check(channel.kind, channel.settings)
        except ValueError as error:
            raise SettingsFailed(
                f"{path}.{error}", "correct it; docs/reference lists the settings of each kind"
            ) from None
        for n, route in enumerate(channel.routes):
            try:
                routing.known_carriers(route.carriers)
            except AdminFailed as error:
                raise SettingsFailed(f"{path}.routes[{n}]: {error.reason}", error.fix) from None


def literal_secrets(name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each secret that stands where many can read it: the file, the database, its backups."""
    for key in sorted(SECRET & settings.keys()):
        if not str(settings[key]).startswith(ELSEWHERE):
            yield f"the {key} of channel {name} can be read by many; write env:NAME or file:PATH instead"


async def apply(db: Database, channels: Mapping[str, DeclaredChannel]) -> list[str]:
    """What was done and found, one sentence each. Raises AdminFailed."""
    warned = [said for name, channel in channels.items() for said in literal_secrets(name, channel.settings)]
    async with db.transaction() as connection:
        return [*await declared.declare(connection, channels), *warned]
