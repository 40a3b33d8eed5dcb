"""Example site whose smoke tests can hang or block on request."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from smoketest.store import SharedStore
from smoketest.store.directory import open_state_folder
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import wait_for
from tests.servers.site import Command, ExampleSite

TEST = "tests.e2e.misbehaving.smoke.HangTest.test_"
BLOCK = "tests.e2e.misbehaving.smoke.BlockTest.test_block"


class MisbehavingSite(ExampleSite):
    """Example site with smoke tests that hang or block while a file requests it."""

    def __init__(
        self,
        server: Command | None = None,
        *,
        database: PostgreSQL | MariaDB | None = None,
        **environment: str,
    ) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.misbehaving.settings"}
        super().__init__(server, database=database, **settings | environment)

    @contextlib.contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """Let the smoke test `name` hang whenever it runs during the block."""
        with self._requesting(f"hanging-{name}", name):
            yield

    @contextlib.contextmanager
    def blocking(self) -> Iterator[None]:
        """Keep full runs in progress during the block, up to their deadline."""
        with self._requesting("blocking", "blocking"):
            yield

    @contextlib.contextmanager
    def _requesting(self, what: str, name: str) -> Iterator[None]:
        self.started_file(name).unlink(missing_ok=True)
        file = self.data_folder / what
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def started_file(self, name: str) -> Path:
        """Return the file that a test creates when it starts to hang or block."""
        return self.data_folder / f"started-{name}"

    def wait_until_started(self, name: str = "blocking") -> None:
        """Wait until a test hangs or blocks, so that the run stays in progress."""
        wait_for(self.started_file(name).exists, what=f"the beginning of {name}")

    def run_one(self, name: str, *others: str) -> dict[str, Any]:
        """Run a hanging test together with `others`, and return its result."""
        ids = [f"{TEST}{name}", *others]
        results = self.run_tests("?" + "&".join(f"test={one}" for one in ids))["results"]
        assert {result["id"] for result in results} == set(ids), results
        (found,) = (result for result in results if result["id"] == ids[0])
        result: dict[str, Any] = found
        return result

    def store(self) -> SharedStore:
        """Return the results store, for reading without a request."""
        return SharedStore(open_state_folder(str(self.data_folder / "smoketest"), {}, ()))

    def committed_rows(self) -> int:
        """Return the number of committed rows that hanging tests wrote."""
        statement = "SELECT count(*) FROM catalog_author WHERE name LIKE 'Hanging in%'"
        if self.database is not None:
            return int(self.database.sql(statement))
        with contextlib.closing(sqlite3.connect(self.data_folder / "shop.sqlite3")) as connection:
            count: int = connection.execute(statement).fetchone()[0]
            return count

    def has_open_transaction(self) -> bool:
        """Return whether a transaction that has written is open."""
        if isinstance(self.database, PostgreSQL):
            statement = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
            return self.database.sql(statement) != "0"
        if isinstance(self.database, MariaDB):
            # InnoDB refreshes the table only if it has not been read for 0.1 s.
            time.sleep(0.2)
            return self.database.sql("SELECT count(*) FROM information_schema.innodb_trx") != "0"
        file = self.data_folder / "shop.sqlite3"
        with contextlib.closing(
            sqlite3.connect(file, timeout=0, isolation_level=None)
        ) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
            return False

    def wait_for_rollback(self) -> None:
        """Wait until no transaction is open. A hanging test would keep it open for much longer."""
        wait_for(self.has_open_transaction, lambda held: not held, what="the end of a transaction")


@contextlib.contextmanager
def background_requests() -> Iterator[ThreadPoolExecutor]:
    """Return a thread pool for requests that are sent in the background."""
    with ThreadPoolExecutor(2) as pool:
        yield pool
