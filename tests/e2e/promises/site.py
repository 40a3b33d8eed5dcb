"""The example site with the tests that hang on demand."""

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

TEST = "tests.e2e.promises.smoke.HangTest.test_"
STAY = "tests.e2e.promises.smoke.StayTest.test_stay"


class PromiseSite(ExampleSite):
    """Its smoke tests hang while they are asked to; all others are those of the example."""

    def __init__(
        self,
        server: Command | None = None,
        *,
        database: PostgreSQL | MariaDB | None = None,
        **environment: str,
    ) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.promises.settings"}
        super().__init__(server, database=database, **settings | environment)

    @contextlib.contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """While the body runs, the smoke test `name` hangs whenever it runs."""
        with self._asking(f"hanging-{name}", name):
            yield

    @contextlib.contextmanager
    def staying(self) -> Iterator[None]:
        """While the body runs, no run of all tests ends before its deadline."""
        with self._asking("staying", "staying"):
            yield

    @contextlib.contextmanager
    def _asking(self, what: str, name: str) -> Iterator[None]:
        self.began_file(name).unlink(missing_ok=True)
        file = self.data_folder / what
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def began_file(self, name: str) -> Path:
        """The file that a test creates which hangs or stays."""
        return self.data_folder / f"began-{name}"

    def wait_until_it_began(self, name: str = "staying") -> None:
        """Wait until a test hangs or stays, and so keeps the run in progress."""
        wait_for(self.began_file(name).exists, what=f"the beginning of {name}")

    def run_one(self, name: str, *others: str) -> dict[str, Any]:
        """Run one of the tests that can hang, and others beside it; return its result."""
        ids = [f"{TEST}{name}", *others]
        results = self.run_tests("?" + "&".join(f"test={one}" for one in ids))["results"]
        assert {result["id"] for result in results} == set(ids), results
        (found,) = (result for result in results if result["id"] == ids[0])
        result: dict[str, Any] = found
        return result

    def store(self) -> SharedStore:
        """The results store, to be read without a request."""
        return SharedStore(open_state_folder(str(self.data_folder / "smoketest"), {}, ()))

    def written(self) -> int:
        """How many rows of tests that hung are in the database, committed."""
        statement = "SELECT count(*) FROM catalog_author WHERE name LIKE 'Hanging in%'"
        if self.database is not None:
            return int(self.database.sql(statement))
        with contextlib.closing(sqlite3.connect(self.data_folder / "shop.sqlite3")) as connection:
            count: int = connection.execute(statement).fetchone()[0]
            return count

    def is_held(self) -> bool:
        """Whether a transaction that has written is open."""
        if isinstance(self.database, PostgreSQL):
            statement = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
            return self.database.sql(statement) != "0"
        if isinstance(self.database, MariaDB):
            # InnoDB refreshes the table only if nothing has read it for 0.1 s.
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

    def wait_until_free(self) -> None:
        """Wait until no smoke test holds a transaction; those that hang do so for far longer."""
        wait_for(self.is_held, lambda held: not held, what="the end of a transaction")


@contextlib.contextmanager
def meanwhile() -> Iterator[ThreadPoolExecutor]:
    """Threads that send requests while the test does something else."""
    with ThreadPoolExecutor(2) as pool:
        yield pool
