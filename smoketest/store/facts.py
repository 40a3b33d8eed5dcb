"""Single values of the results store, such as when the latest run began."""

from __future__ import annotations

import sqlite3
from typing import Any


def read_facts(database: sqlite3.Connection) -> dict[str, Any]:
    return dict(database.execute("SELECT name, value FROM facts").fetchall())


def set_fact(database: sqlite3.Connection, name: str, value: float | str) -> None:
    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])
