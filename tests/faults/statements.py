"""Statements that end the transaction, change the schema, or change limits."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db import connection, models

from smoketest import SmokeTest
from tests.faults.fault import Expected, detected, fails, fault, passes, refused, sql, write
from tests.ledger.models import Account

REFUSED = "A statement that ends the transaction is refused before it reaches the database."
REFUSED_BY_DATABASE = "The database refuses the statement in a transaction."
DDL = "Schema changes are rolled back, or refused if the database would commit them."
HIDDEN = "A commit inside another statement is refused, rolled back or detected."
SETTINGS = "Session settings are discarded."


def statement(
    guarantee: str,
    text: str,
    *statements: str,
    name: str,
    everywhere: Expected | None = None,
    **on_each: Any,
) -> None:
    """Add a row whose test writes, and then runs the statements."""

    def test_it() -> None:
        write()
        for one in statements:
            sql(one)

    fault(guarantee, everywhere, name=name, text=text, **on_each)(test_it)


statement(REFUSED, "Runs COMMIT.", "COMMIT", name="commit", everywhere=refused("COMMIT"))
statement(
    REFUSED,
    "Runs COMMIT in mixed case, with comments and a semicolon.",
    "  /* x */ CoMmIt /* y */ ;",
    name="commit_with_comments",
    everywhere=refused("COMMIT"),
)
statement(
    REFUSED,
    "Runs COMMIT after a single-line comment.",
    "-- a comment\nCOMMIT",
    name="commit_after_a_comment",
    everywhere=refused("COMMIT"),
)
statement(
    REFUSED,
    "Runs COMMIT after an empty statement.",
    ";COMMIT",
    name="commit_after_empty_statement",
    sqlite=fails(word="refused"),  # the driver accepts one statement at a time
    postgresql=refused("COMMIT"),
    mariadb=fails(word="refused"),
)
statement(
    REFUSED,
    "Runs SELECT and COMMIT in one string.",
    "SELECT 1; COMMIT",
    name="commit_as_second_statement",
    sqlite=fails(word="refused"),
    postgresql=refused("COMMIT"),
    mariadb=fails(word="refused"),
)
statement(
    REFUSED,
    "Runs SELECT and COMMIT in one string, if the driver options allow that.",
    "SELECT 1; COMMIT",
    name="commit_as_second_statement_of_many",
    mariadb=refused("COMMIT"),
    settings={"OPTIONS": {"client_flag": 1 << 16}},  # CLIENT.MULTI_STATEMENTS
)
statement(
    REFUSED,
    "Runs COMMIT in a comment that MariaDB executes.",
    "/*! COMMIT */",
    name="commit_in_executed_comment",
    mariadb=refused("COMMIT"),
)
statement(
    REFUSED,
    "Runs COMMIT AND CHAIN.",
    "COMMIT AND CHAIN",
    name="commit_and_chain",
    postgresql=refused("COMMIT"),
    mariadb=refused("COMMIT"),
)
statement(REFUSED, "Runs COMMIT WORK.", "COMMIT WORK", name="commit_work",
          postgresql=refused("COMMIT"), mariadb=refused("COMMIT"))  # fmt: skip
statement(REFUSED, "Runs END.", "END", name="end", sqlite=refused("END"), postgresql=refused("END"))
statement(REFUSED, "Runs ABORT.", "ABORT", name="abort", postgresql=refused("ABORT"))
statement(REFUSED, "Runs ROLLBACK.", "ROLLBACK", name="rollback", everywhere=refused("ROLLBACK"))
statement(REFUSED, "Runs BEGIN.", "BEGIN", name="begin", everywhere=refused("BEGIN"))
statement(
    REFUSED,
    "Runs START TRANSACTION, which on MariaDB commits the current transaction.",
    "START TRANSACTION",
    name="start_transaction",
    postgresql=refused("START TRANSACTION"),
    mariadb=refused("START TRANSACTION"),
)
statement(
    REFUSED,
    "Prepares the transaction, so that another session can commit it.",
    "PREPARE TRANSACTION 'leftover'",
    name="prepare_transaction",
    postgresql=refused("PREPARE TRANSACTION"),
)
statement(
    REFUSED, "Starts an XA transaction.", "XA START 'leftover'", name="xa_start",
    mariadb=refused("XA START"),
)  # fmt: skip
statement(
    REFUSED,
    "Enables autocommit, which commits on MariaDB.",
    "SET autocommit = 1",
    name="sql_autocommit_on",
    mariadb=refused("autocommit"),
)
statement(
    REFUSED,
    "Disables autocommit with SQL.",
    "SET autocommit = 0",
    name="sql_autocommit_off",
    mariadb=refused("autocommit"),
)
statement(
    REFUSED,
    "Enables autocommit with other names of the variable, after setting a harmless one.",
    "SET @x = 1, SESSION autocommit = ON",
    name="set_session_autocommit",
    mariadb=refused("autocommit"),
)
statement(
    REFUSED,
    "Enables autocommit with @@autocommit.",
    "SET @@session.autocommit = 1",
    name="set_autocommit_variable",
    mariadb=refused("autocommit"),
)


# A comment or string of one database is code in another.

_MULTI: dict[str, Any] = {"OPTIONS": {"client_flag": 1 << 16}}  # CLIENT.MULTI_STATEMENTS

statement(
    REFUSED,
    "Runs COMMIT after a string that ends with a backslash.",
    "SELECT 'a\\'; COMMIT; --'",
    name="commit_after_backslash",
    postgresql=refused("COMMIT"),
)
statement(
    REFUSED,
    "Runs COMMIT after the operator #, which starts a comment in MariaDB.",
    "SELECT 1 # 2; COMMIT",
    name="commit_after_hash",
    postgresql=refused("COMMIT"),
)
statement(
    REFUSED,
    "Runs COMMIT after two minus signs that do not start a comment.",
    "SELECT 5--1; COMMIT",
    name="commit_after_two_minuses",
    mariadb=refused("COMMIT"),
    settings=_MULTI,
)
statement(
    REFUSED,
    "Runs COMMIT between names with dollar signs, which are quotes in PostgreSQL.",
    "SELECT 1 AS $a$; COMMIT; SELECT 2 AS $a$",
    name="commit_between_dollars",
    mariadb=refused("COMMIT"),
    settings=_MULTI,
)
statement(
    REFUSED,
    "Runs COMMIT after a string that ends with a backslash, with NO_BACKSLASH_ESCAPES.",
    "SELECT 'a\\'; COMMIT; -- '",
    name="commit_without_backslash_escapes",
    mariadb=detected("COMMIT"),
    settings={"OPTIONS": {**_MULTI["OPTIONS"], "sql_mode": "NO_BACKSLASH_ESCAPES"}},
)
statement(
    REFUSED,
    "Runs COMMIT after a nested comment.",
    "/* a /* b */ */ COMMIT",
    name="commit_after_nested_comment",
    postgresql=refused("COMMIT"),
)
statement(
    REFUSED,
    "Runs COMMIT between dollar-quoted and double-quoted text.",
    """SELECT $x$ ' $x$ AS "'"; COMMIT; SELECT '""" + "'",
    name="commit_between_quotes",
    postgresql=refused("COMMIT"),
)
statement(
    REFUSED,
    "Rolls back with AND CHAIN, which starts a new transaction.",
    "ROLLBACK AND CHAIN",
    name="rollback_and_chain",
    postgresql=refused("ROLLBACK"),
    mariadb=refused("ROLLBACK"),
)


@fault(REFUSED, refused("COMMIT"))
def refusal_is_ignored(test: SmokeTest) -> None:
    """Catches the exception of a refused COMMIT, and continues."""
    write()
    with suppress(Exception):
        sql("COMMIT")
    test.assertEqual(Account.objects.count(), 3)


@fault(REFUSED, refused("COMMIT"))
def commit_with_executemany() -> None:
    """Runs COMMIT with executemany()."""
    write()
    with connection.cursor() as cursor:
        cursor.executemany("COMMIT", [()])


@fault(REFUSED, refused("COMMIT", alias="other"))
def commit_on_another_alias() -> None:
    """Runs COMMIT on the second database."""
    write()
    write(alias="other")
    sql("COMMIT", "other")


# Savepoints

statement(
    REFUSED_BY_DATABASE,
    "Releases a savepoint with a guessed name.",
    "RELEASE SAVEPOINT smoketest_0123456789abcdef",
    name="release_of_guessed_savepoint",
    everywhere=fails("savepoint"),
)
statement(
    REFUSED_BY_DATABASE,
    "Rolls back to a savepoint with a guessed name.",
    "ROLLBACK TO SAVEPOINT smoketest_0123456789abcdef",
    name="rollback_to_guessed_savepoint",
    everywhere=fails("savepoint"),
)

# Other statements that cannot run in a transaction

statement(REFUSED_BY_DATABASE, "Runs VACUUM.", "VACUUM", name="vacuum",
          sqlite=fails("VACUUM"), postgresql=fails("VACUUM"))  # fmt: skip
statement(
    REFUSED_BY_DATABASE,
    "Builds an index concurrently.",
    "CREATE INDEX CONCURRENTLY leftover ON ledger_account (name)",
    name="create_index_concurrently",
    postgresql=fails("CONCURRENTLY"),
)
statement(
    REFUSED_BY_DATABASE,
    "Creates a database.",
    "CREATE DATABASE leftover",
    name="create_database",
    postgresql=fails("CREATE DATABASE"),
    mariadb=refused("CREATE DATABASE"),
)

# DDL


def _rolled_back_or_refused(in_message: str) -> dict[str, Any]:
    return {"sqlite": passes(), "postgresql": passes(), "mariadb": refused(in_message)}


statement(DDL, "Creates a table.", "CREATE TABLE leftover (id integer)", name="create_table",
          **_rolled_back_or_refused("CREATE TABLE"))  # fmt: skip
statement(
    DDL,
    "Creates a table, in mixed case and with comments.",
    "/* x */ cReAtE /* y */ tAbLe leftover (id integer)",
    name="create_table_with_comments",
    **_rolled_back_or_refused("CREATE"),
)
statement(
    DDL, "Alters a table.", "ALTER TABLE ledger_account ADD COLUMN leftover integer",
    name="alter_table", **_rolled_back_or_refused("ALTER TABLE"),
)  # fmt: skip
statement(DDL, "Drops a table.", "DROP TABLE ledger_entry", name="drop_table",
          **_rolled_back_or_refused("DROP TABLE"))  # fmt: skip
statement(
    DDL, "Creates an index.", "CREATE INDEX leftover ON ledger_account (name)",
    name="create_index", **_rolled_back_or_refused("CREATE INDEX"),
)  # fmt: skip
statement(
    DDL,
    "Creates a view.",
    "CREATE VIEW leftover AS SELECT * FROM ledger_account",
    name="create_view",
    **_rolled_back_or_refused("CREATE VIEW"),
)
statement(
    DDL,
    "Creates a trigger.",
    "CREATE TRIGGER leftover AFTER INSERT ON ledger_account FOR EACH ROW DELETE FROM ledger_entry",
    name="create_trigger",
    mariadb=refused("CREATE TRIGGER"),
)
statement(
    DDL,
    "Empties a table with TRUNCATE.",
    "TRUNCATE TABLE ledger_entry",
    name="truncate",
    postgresql=passes(),
    mariadb=refused("TRUNCATE"),
)
statement(
    DDL,
    "Renames a table.",
    "ALTER TABLE ledger_entry RENAME TO leftover",
    name="rename_by_alter",
    **_rolled_back_or_refused("ALTER TABLE"),
)
statement(
    DDL,
    "Renames a table with RENAME.",
    "RENAME TABLE ledger_entry TO leftover",
    name="rename_table",
    mariadb=refused("RENAME TABLE"),
)
statement(
    DDL,
    "Creates a user and grants it all privileges.",
    "CREATE USER leftover",
    "GRANT ALL ON ledger_account TO leftover",
    name="create_user",
    postgresql=passes(),
    mariadb=refused("CREATE USER"),
)
statement(
    DDL,
    "Creates a temporary table and fills it.",
    "CREATE TEMPORARY TABLE scratch (id integer)",
    "INSERT INTO scratch VALUES (1)",
    name="temporary_table",
    everywhere=passes(),
)


@fault(
    DDL, fails("schema editor"), postgresql=passes(), mariadb=fails("prohibited", word="refused")
)
def schema_editor() -> None:
    """Creates a table with Django's schema editor."""
    leftover = type("Leftover", (models.Model,), {"__module__": "tests.ledger.models"})
    try:
        write()
        with connection.schema_editor() as editor:
            editor.create_model(leftover)
    finally:
        del leftover._meta.apps.all_models["ledger"]["leftover"]  # type: ignore[attr-defined]


# Statements of MariaDB that commit implicitly

for _statement in (
    "LOCK TABLES ledger_account WRITE",
    "UNLOCK TABLES",
    "FLUSH TABLES",
    "ANALYZE TABLE ledger_account",
    "OPTIMIZE TABLE ledger_account",
    "CHECK TABLE ledger_account",
    "REPAIR TABLE ledger_account",
    "CACHE INDEX ledger_account IN leftover",
    "CREATE SEQUENCE leftover",
    "CREATE FUNCTION leftover() RETURNS INTEGER RETURN 1",
    "DROP PROCEDURE committing",
    "SET PASSWORD = PASSWORD('smoketest')",
    "INSTALL SONAME 'disks'",
    "RESET MASTER",
    "BACKUP STAGE START",
    "CHANGE MASTER TO MASTER_HOST='leftover'",
):
    _words = " ".join(_statement.split()[:2])
    statement(
        REFUSED,
        f"Runs {_words}, which commits by itself.",
        _statement,
        name=_words.lower().replace(" ", "_"),
        mariadb=refused(_words),
    )

statement(
    "Locks are released at the end of the test.",
    "Locks a whole table.",
    "LOCK TABLE ledger_account IN ACCESS EXCLUSIVE MODE",
    name="lock_table",
    postgresql=passes(),
)
statement(
    "Session locks are released at the end of the run.",
    "Acquires a session-level advisory lock.",
    "SELECT pg_advisory_lock(4711)",
    name="advisory_lock",
    postgresql=passes(),
)
statement(
    "Session locks are released at the end of the run.",
    "Acquires a session lock with GET_LOCK().",
    "SELECT GET_LOCK('leftover', 1)",
    name="get_lock",
    mariadb=passes(),
)

# Hidden commits

statement(
    HIDDEN,
    "Calls a procedure that commits.",
    "CALL committing()",
    name="committing_procedure",
    postgresql=fails("invalid transaction termination", word="refused"),
    mariadb=detected("CALL"),
)
statement(
    HIDDEN,
    "Commits in an anonymous block.",
    "DO $$ BEGIN COMMIT; END $$",
    name="commit_in_a_block",
    postgresql=fails("invalid transaction termination", word="refused"),
)
statement(
    HIDDEN,
    "Commits in a compound statement.",
    "BEGIN NOT ATOMIC COMMIT; END",
    name="commit_in_compound_statement",
    mariadb=refused("BEGIN"),
)
statement(
    HIDDEN,
    "Commits in a condition.",
    "IF 1 THEN COMMIT; END IF",
    name="commit_in_condition",
    mariadb=refused("IF"),
)
statement(
    HIDDEN,
    "Commits in a loop.",
    "WHILE 1 DO COMMIT; END WHILE",
    name="commit_in_loop",
    mariadb=refused("WHILE"),
)
statement(
    HIDDEN,
    "Commits in a SET STATEMENT ... FOR statement.",
    "SET STATEMENT max_statement_time = 1 FOR COMMIT",
    name="set_statement_for_commit",
    mariadb=fails(word="refused"),
)
statement(
    HIDDEN,
    "Creates a table in a SET STATEMENT ... FOR statement.",
    "SET STATEMENT sql_mode = '' FOR CREATE TABLE leftover (id integer)",
    name="set_statement_for_create",
    mariadb=refused("SET STATEMENT"),
)
statement(
    HIDDEN,
    "Runs COMMIT from a string with EXECUTE IMMEDIATE.",
    "EXECUTE IMMEDIATE 'COMMIT'",
    name="execute_immediate",
    mariadb=refused("EXECUTE IMMEDIATE"),
)
statement(
    HIDDEN,
    "Runs COMMIT as a prepared statement.",
    "PREPARE leftover FROM 'COMMIT'",
    "EXECUTE leftover",
    name="prepared_commit",
    mariadb=refused("PREPARE"),
)
statement(
    HIDDEN,
    "Calls a function that writes.",
    "SELECT writing()",
    name="writing_function",
    postgresql=passes(),
)


@fault("Changes of a test are rolled back.", postgresql=passes())
def copy_from(test: SmokeTest) -> None:
    """Writes rows with COPY."""
    with connection.cursor() as cursor:
        with cursor.copy("COPY ledger_account (name) FROM STDIN") as copy:
            copy.write_row(("copied",))
        cursor.execute("SELECT count(*) FROM ledger_account")
        test.assertEqual(cursor.fetchone(), (3,))


statement(
    "Notifications are not delivered.",
    "Sends a notification with NOTIFY.",
    "NOTIFY leftover, 'by the smoke test'",
    name="notify",
    postgresql=passes(),
)

# Settings

statement(
    SETTINGS,
    "Changes the search path, the role and the time zone.",
    "SET search_path = pg_catalog",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET TIME ZONE 'Asia/Tokyo'",
    name="settings_of_the_session",
    postgresql=passes(),
)
statement(
    SETTINGS,
    "Makes all later transactions of the session read-write and serializable.",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
    name="session_characteristics",
    postgresql=passes(),
)
statement(
    SETTINGS,
    "Changes the SQL mode and the current database.",
    "SET SESSION sql_mode = ''",
    "USE other",
    name="sql_mode_and_use",
    mariadb=passes(),
)
statement(
    SETTINGS,
    "Changes the isolation level of the next transaction.",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    name="set_session_transaction",
    mariadb=passes(),
)
statement(
    REFUSED_BY_DATABASE,
    "Changes the isolation level of its transaction, which has already started.",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    name="set_transaction",
    postgresql=fails("SET TRANSACTION ISOLATION LEVEL"),
    mariadb=fails("transaction"),
)


# Read only

READ_ONLY = "With read_only, the database refuses writes."
_READ_ONLY: dict[str, Any] = {
    "sqlite": fails("readonly", word="refused"),
    "postgresql": fails("read-only", word="refused"),
    "mariadb": fails("read only", word="refused"),
}


@fault(READ_ONLY, **_READ_ONLY)
class ReadOnly(SmokeTest):
    """Writes although its class is read-only."""

    read_only = True

    def test_it(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(READ_ONLY, passes(word="passes"))
class ReadOnlyReads(SmokeTest):
    """Reads in a read-only class, without locks."""

    read_only = True

    def test_it(self) -> None:
        for alias in ("default", "other"):
            self.assertEqual(Account.objects.using(alias).count(), 2)


@fault(
    READ_ONLY,
    sqlite=fails(word="refused"),
    postgresql=fails("read-write mode", word="refused"),
    mariadb=fails(word="refused"),
)
class ReadOnlyRemoved(SmokeTest):
    """Makes its transaction read-write again, and writes."""

    read_only = True

    def test_it(self) -> None:
        sql("SELECT 1")
        sql(
            {
                "sqlite": "PRAGMA query_only = 0",
                "postgresql": "SET TRANSACTION READ WRITE",
                "mysql": "SET TRANSACTION READ WRITE",
            }[connection.vendor]
        )
        write()


@fault(READ_ONLY, mariadb=refused("DROP TABLE"), sqlite=fails(word="refused"),
       postgresql=fails("read-only", word="refused"))  # fmt: skip
class ReadOnlyDropsTable(SmokeTest):
    """Drops a table although its class is read-only."""

    read_only = True

    def test_it(self) -> None:
        sql("DROP TABLE ledger_entry")


# SQLite only


@fault("Other database files cannot be used.", sqlite=refused("ATTACH"))
def attach(test: SmokeTest) -> None:
    """Attaches another database file, and writes to it."""
    path = test.backend.folder / "attached.sqlite3"  # type: ignore[attr-defined]
    write()
    sql(f"ATTACH DATABASE '{path}' AS attached")
    sql("CREATE TABLE attached.leftover (id integer)")
    sql("INSERT INTO attached.leftover VALUES (1)")


@fault("Other database files cannot be used.", sqlite=fails(word="refused"))
def vacuum_into(test: SmokeTest) -> None:
    """Copies the database to another file."""
    path = test.backend.folder / "copy.sqlite3"  # type: ignore[attr-defined]
    sql(f"VACUUM INTO '{path}'")


@fault("Settings of the database file do not change.", sqlite=refused("journal_mode"))
def journal_mode() -> None:
    """Changes the journal mode of the file."""
    write()
    sql("PRAGMA journal_mode = WAL")


@fault("Locks are released at the end of the run.", sqlite=refused("locking_mode"))
def locking_mode() -> None:
    """Sets SQLite's exclusive locking mode."""
    sql("PRAGMA locking_mode = EXCLUSIVE")
    write()


@fault("Changes of a test are rolled back.", sqlite=passes())
def writable_schema() -> None:
    """Writes to the schema table."""
    sql("PRAGMA writable_schema = 1")
    sql("DELETE FROM sqlite_master")


@fault("Changes of a test are rolled back.", sqlite=passes())
def user_version(test: SmokeTest) -> None:
    """Changes the user version in the header of the file."""
    sql("PRAGMA user_version = 4711")
    test.assertEqual(sql("PRAGMA user_version"), [(4711,)])


@fault("A test whose changes could not be committed does not pass.", sqlite=fails("foreign key"))
def defer_foreign_keys() -> None:
    """Defers foreign key checks, and deletes a referenced row."""
    sql("PRAGMA defer_foreign_keys = 1")
    sql("DELETE FROM ledger_account WHERE id = 1")
