"""Sequences and counters of ids."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from django.core.management import call_command
from django.core.management.color import no_style
from django.core.serializers import serialize
from django.db import connection

from smoketest import SmokeTest
from tests.faults.fault import fault, passes, refused, sql, write
from tests.ledger.models import Account

NEVER_SET = "Sequences are never set, because a rollback does not undo it."

SETVAL = refused("setval", "duplicate")


@fault(NEVER_SET, postgresql=SETVAL)
def setval() -> None:
    """Sets a sequence with setval()."""
    write()
    sql("SELECT setval('ledger_account_id_seq', 2)")


@fault(NEVER_SET, postgresql=SETVAL)
def setval_qualified() -> None:
    """Sets a sequence with setval() in odd case, with its schema and quotes."""
    sql("""SELECT pg_catalog."setval" /* x */ ('ledger_account_id_seq', 2)""")
    sql("SELECT 1, SETVAL ('ledger_account_id_seq', 2)")


@fault(NEVER_SET, postgresql=SETVAL)
def setval_in_a_block() -> None:
    """Sets a sequence with setval() in an anonymous block."""
    sql("DO $$ BEGIN PERFORM setval('ledger_account_id_seq', 2); END $$")


@fault(NEVER_SET, postgresql=SETVAL)
def setval_by_driver() -> None:
    """Sets a sequence with setval() by a cursor of the driver."""
    write()
    connection.connection.cursor().execute("SELECT setval('ledger_account_id_seq', 2)")


@fault(NEVER_SET, mariadb=refused("setval", "duplicate"))
def setval_of_mariadb() -> None:
    """Sets a sequence with SETVAL(), which a rollback does not undo either."""
    sql("SELECT SETVAL(ledger_sequence, 1000)")


@fault(
    NEVER_SET,
    postgresql=refused("ALTER SEQUENCE", "duplicate"),
    mariadb=refused("ALTER SEQUENCE"),
)
def alter_sequence() -> None:
    """Restarts a sequence with ALTER SEQUENCE."""
    sql("ALTER SEQUENCE ledger_account_id_seq RESTART")


@fault(NEVER_SET, postgresql=refused("RESTART", "duplicate"))
def restart_identity_column() -> None:
    """Restarts a sequence with ALTER TABLE."""
    sql("ALTER TABLE ledger_account ALTER COLUMN id RESTART WITH 1")


@fault(NEVER_SET, postgresql=refused("RESTART", "duplicate"))
def truncate_restart_identity() -> None:
    """Restarts the sequences of a table with TRUNCATE."""
    sql("TRUNCATE ledger_entry RESTART IDENTITY")


@fault(NEVER_SET, mariadb=refused("ALTER TABLE"))
def auto_increment() -> None:
    """Sets AUTO_INCREMENT with ALTER TABLE."""
    sql("ALTER TABLE ledger_account AUTO_INCREMENT = 1")


@fault(NEVER_SET, sqlite=refused("sqlite_sequence", "duplicate"))
def sqlite_sequence() -> None:
    """Writes to the table in which SQLite keeps its counters."""
    write()
    sql("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'ledger_account'")


@fault(
    NEVER_SET,
    postgresql=SETVAL,
    sqlite=refused("sqlite_sequence", "duplicate"),
    mariadb=refused("ALTER TABLE"),
)
def reset_sequences() -> None:
    """Resets the sequence of a model with the statements of Django."""
    sequences = [{"table": Account._meta.db_table, "column": "id"}]
    for statement in connection.ops.sequence_reset_by_name_sql(no_style(), sequences):
        sql(statement)


@fault(NEVER_SET, postgresql=SETVAL, sqlite=passes(), mariadb=passes())
def loaddata() -> None:
    """Loads a fixture with loaddata, which sets the sequences on PostgreSQL."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "accounts.json"
        path.write_text(serialize("json", [Account(id=3, name="from a fixture")]))
        call_command("loaddata", str(path), verbosity=0)


@fault(
    "Statements that only mention a sequence are allowed.",
    passes(),
)
def read_sequences(test: SmokeTest) -> None:
    """Reads values, and uses names and strings that contain the words."""
    sql("SELECT 'setval(1)', 'restart' AS restart")
    sql("SELECT name AS setval FROM ledger_account WHERE name <> 'alter sequence x restart'")
    if connection.vendor == "postgresql":
        sql("SELECT nextval('ledger_account_id_seq'), currval('ledger_account_id_seq')")
        sql("SELECT * FROM ledger_account_id_seq")
    test.assertGreater(write().id, 2)
