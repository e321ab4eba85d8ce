"""The generated PostgreSQL configuration, sized for the machine; the operator's file is read after it."""

from pathlib import Path

MB = 1 << 20
GB = 1 << 30
# What an acknowledged message rests on (stack.md EP-7); given on the command line, above every file.
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")

HBA = """\
# Generated at every start. Passwords always: who can reach the socket is not thereby known.
local all all scram-sha-256
local replication all scram-sha-256
"""


def configuration(
    pgdata: Path, operator: Path, memory_bytes: int, disk_bytes: int, *, lz4: bool, statements: bool
) -> str:
    """The text of the generated file; sizes from the machine's memory and the disk that holds `pgdata`."""
    shared = min(memory_bytes // 4, GB)
    # On a small disk the log of changes must not be what fills it.
    wal = max(min(disk_bytes // 8, 4 * GB), 64 * MB)
    return f"""\
# Generated at every start: changes belong into {operator.name} beside it, which is read after this file.
include_if_exists '{_quoted(pgdata / "postgresql.conf")}'
max_connections = 60
shared_buffers = {shared // MB}MB
effective_cache_size = {memory_bytes // 2 // MB}MB
work_mem = 8MB
maintenance_work_mem = {max(min(memory_bytes // 16, 256 * MB), 16 * MB) // MB}MB
wal_buffers = {min(shared // 8, 16 * MB) // MB}MB
max_wal_size = {wal // MB}MB
min_wal_size = {max(wal // 4, 32 * MB) // MB}MB
wal_compression = {"lz4" if lz4 else "off"}
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
random_page_cost = 1.1
# Statements are short and many: compiling them costs more than it saves.
jit = off
# The queue is churned: a claim takes 2 ms on clean pages and 180 ms among dead rows (stack.md DB-7).
autovacuum_naptime = 5s
# The queue's own tables are vacuumed without pause; the large ones must not take a core from the traffic.
autovacuum_vacuum_cost_delay = 2ms
autovacuum_vacuum_cost_limit = 1000
autovacuum_vacuum_scale_factor = 0.05
autovacuum_vacuum_insert_scale_factor = 0.1
autovacuum_analyze_scale_factor = 0.05
shared_preload_libraries = '{"pg_stat_statements" if statements else ""}'
password_encryption = 'scram-sha-256'
# Numbers and texts stand in the details of an error and in statements; neither belongs into a log.
log_error_verbosity = terse
log_min_error_statement = panic
log_line_prefix = '%m [%p] '
log_startup_progress_interval = 5s
include '{_quoted(operator)}'
"""


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
