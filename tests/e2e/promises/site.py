"""The example site with the tests that hang on demand."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import wait_for
from tests.servers.site import Command, ExampleSite

TEST = "tests.e2e.promises.smoke.HangTest.test_"


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
        file = self.data_folder / "hanging"
        file.write_text(name)
        try:
            yield
        finally:
            file.unlink()

    def run_one(self, name: str) -> dict[str, Any]:
        """Run one of the tests that can hang; its result."""
        results = self.run_tests(f"?test={TEST}{name}")["results"]
        assert len(results) == 1, results
        result: dict[str, Any] = results[0]
        return result

    def latencies_during(self, request: Future[Any]) -> list[float]:
        """How long another page took, again and again until the request is answered."""
        latencies = []
        while not request.done():
            page = self.get("/")
            assert page.status == 200, page.text
            latencies.append(page.elapsed)
            time.sleep(0.02)
        return latencies

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

    def wait_until_free(self, within: float = 1.0) -> None:
        """Wait until nothing of a smoke test is held in the database."""
        wait_for(
            self.is_held, lambda held: not held, within=within, what="the end of a transaction"
        )


@contextlib.contextmanager
def meanwhile() -> Iterator[ThreadPoolExecutor]:
    """A thread that asks while the test looks at something else."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
