"""The tables of the results store, and upgrades of older versions."""

from __future__ import annotations

import sqlite3
from typing import Any

SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at REAL NOT NULL,
    duration REAL NOT NULL,
    result TEXT NOT NULL,
    passed INTEGER NOT NULL,
    is_full INTEGER NOT NULL,
    selection TEXT NOT NULL,
    cut TEXT NOT NULL,
    collection_errors INTEGER NOT NULL,
    outcomes TEXT NOT NULL,
    report TEXT
);
CREATE TABLE outcomes (
    test TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    outcome TEXT NOT NULL,
    started_at REAL NOT NULL,
    duration REAL NOT NULL,
    PRIMARY KEY (test, run)
) WITHOUT ROWID;
CREATE INDEX outcomes_of_run ON outcomes (run);
CREATE TABLE tests (
    test TEXT PRIMARY KEY,
    result TEXT NOT NULL,
    consecutive_failures INTEGER NOT NULL,
    failing_since REAL,
    last_success_at REAL
) WITHOUT ROWID;
CREATE TABLE test_totals (
    test TEXT NOT NULL REFERENCES tests (test) ON DELETE CASCADE,
    outcome TEXT NOT NULL,
    runs INTEGER NOT NULL,
    PRIMARY KEY (test, outcome)
) WITHOUT ROWID;
CREATE TABLE run_totals (result TEXT PRIMARY KEY, runs INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE renditions (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
#: Statements that upgrade version 1 to 2, 2 to 3 and so on. Version 3 has only new keys in results,
#: which older releases cannot read.
_UPGRADES = ("ALTER TABLE tests ADD COLUMN last_failure TEXT", "SELECT 1")
SCHEMA_VERSION = 1 + len(_UPGRADES)

#: Metadata of a store that replaced a corrupt one; deleted by the next full run. The value is the
#: name that release 2.0 stored.
WAS_RESET = "begun_anew"


def schema_version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def make_schema(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    version = schema_version(database)  # another process may have created it
    if version == 0:
        for statement in SCHEMA.split(";"):
            database.execute(statement)
        version = 1
    if version < SCHEMA_VERSION:
        for statement in _UPGRADES[version - 1 :]:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("COMMIT")


def read_metadata(database: sqlite3.Connection) -> dict[str, Any]:
    return dict(database.execute("SELECT name, value FROM facts").fetchall())


def set_metadata(database: sqlite3.Connection, name: str, value: float | str) -> None:
    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])
