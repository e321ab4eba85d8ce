"""`migrate`, `backup` and `restore`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from speedsms.cli.terminal import progress, show
from speedsms.gateway.cli.terminal import PLAIN, Options, command, urls
from speedsms.gateway.store import backup as backups
from speedsms.gateway.store import migrate as migrations
from speedsms.gateway.store.embedded.home import APPLICATION

Directory = Annotated[Path, Parameter(help="A directory of its own.")]


@command
async def migrate(
    *,
    phase: Annotated[
        Literal["pre", "post", "all"],
        Parameter(help="pre: before the new release runs; post: after the old is gone."),
    ] = "all",
    app_role: Annotated[
        str | None, Parameter(help="The role that serves, when it is not the one that migrates.")
    ] = None,
    options: Options = PLAIN,
) -> None:
    settings = options.settings()
    role = app_role or (None if settings.database.url else APPLICATION)
    async with urls(settings, create=True) as (_, admin_url):
        applied = await migrations.migrate(admin_url, phase, role)
    names = [f"{migration.version:04} {migration.kind} {migration.name}" for migration in applied]
    show(options, {"applied": names}, lines=names or ["nothing to do"])


@command
async def backup(target: Directory, *, options: Options = PLAIN) -> None:
    settings = options.settings()
    async with urls(settings) as (_, admin_url):
        manifest = await backups.backup(admin_url, target, progress, settings.embedded.bin_dir)
    show(
        options,
        manifest,
        lines=[f"{manifest.dump_octets:,} octets in {target}, schema {manifest.schema_version}"],
    )


@command
async def restore(source: Directory, *, options: Options = PLAIN) -> None:
    """Nothing is changed when the backup is damaged or the database holds anything."""
    settings = options.settings()
    async with urls(settings, create=True) as (_, admin_url):
        manifest = await backups.restore(admin_url, source, progress, settings.embedded.bin_dir)
        await migrations.migrate(admin_url, "all", None if settings.database.url else APPLICATION)
    show(options, manifest, lines=[f"{rows} rows of {name} are back" for name, rows in manifest.rows.items()])
