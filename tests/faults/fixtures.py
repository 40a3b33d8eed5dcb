"""Fixtures and cleanups of tests, classes and modules."""

from __future__ import annotations

import unittest
from typing import Any

from smoketest import SmokeTest
from tests.faults.fault import fails, fault, passes, refused, sql, write
from tests.ledger.models import Account

ISOLATED = "Changes of fixtures and cleanups are rolled back."
COMMITS = "Fixtures may not end the transaction."
PROBLEMS = "A failed fixture is rolled back, and the other classes run."


def _count() -> int:
    return Account.objects.count()


@fault(ISOLATED, passes())
class WriteInSetUp(SmokeTest):
    """Writes in setUp and tearDown."""

    def setUp(self) -> None:
        write()

    def test_it(self) -> None:
        self.assertEqual(_count(), 3)

    def tearDown(self) -> None:
        write("tearDown")


@fault(ISOLATED, passes())
class WriteInCleanup(SmokeTest):
    """Writes in a cleanup."""

    def test_it(self) -> None:
        self.addCleanup(write)


@fault(ISOLATED, passes("passed", "passed"))
class WriteInSetUpClass(SmokeTest):
    """Writes in setUpClass and tearDownClass; its tests see these rows, but not each other's."""

    @classmethod
    def setUpClass(cls) -> None:
        write("setUpClass")

    def test_1(self) -> None:
        self.assertEqual(_count(), 3)
        write()
        Account.objects.filter(name="setUpClass").delete()

    test_2 = test_1

    @classmethod
    def tearDownClass(cls) -> None:
        write("tearDownClass")


@fault(ISOLATED, passes())
class WriteInClassCleanup(SmokeTest):
    """Writes in a class cleanup registered in setUpClass."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.addClassCleanup(write)

    def test_it(self) -> None:
        self.assertEqual(_count(), 2)


@fault(ISOLATED, passes())
class WriteInClassCleanupFromTest(SmokeTest):
    """Writes in a class cleanup registered by a test."""

    def test_it(self) -> None:
        self.addClassCleanup(write)


@fault(
    ISOLATED,
    passes("passed", "passed"),
    module={
        "setUpModule": lambda: write("setUpModule"),
        "tearDownModule": lambda: write("tearDownModule"),
    },
)
class WriteInSetUpModule(SmokeTest):
    """Writes in setUpModule and tearDownModule."""

    def test_1(self) -> None:
        self.assertEqual(_count(), 3)
        write()

    test_2 = test_1


@fault(ISOLATED, passes(), module={"setUpModule": lambda: unittest.addModuleCleanup(write)})
class WriteInModuleCleanup(SmokeTest):
    """Writes in a module cleanup."""

    def test_it(self) -> None:
        self.assertEqual(_count(), 2)


@fault(ISOLATED, passes("passed", "passed"))
class WriteInAsyncTest(SmokeTest):
    """Writes in an async test with the asynchronous ORM."""

    async def test_1(self) -> None:
        await Account.objects.acreate(name="by the smoke test")
        self.assertEqual(await Account.objects.acount(), 3)

    test_2 = test_1


# unittest: an error in a cleanup ends the test.
@fault(PROBLEMS, fails("tearDown went wrong", outcomes=("errored", "errored")))
class ErrorInTearDown(SmokeTest):
    """Raises in tearDown after writing."""

    def test_1(self) -> None:
        self.assertEqual(_count(), 2)
        write()

    test_2 = test_1

    def tearDown(self) -> None:
        write("tearDown")
        raise LookupError("tearDown went wrong")


@fault(PROBLEMS, fails("setUpClass", outcomes=("errored", "errored")))
class ErrorInSetUpClass(SmokeTest):
    """Raises in setUpClass after writing."""

    @classmethod
    def setUpClass(cls) -> None:
        write()
        raise LookupError("went wrong")

    def test_1(self) -> None: ...

    def test_2(self) -> None: ...


@fault(COMMITS, refused("COMMIT"))
class CommitInSetUp(SmokeTest):
    """Runs COMMIT in setUp."""

    def setUp(self) -> None:
        write()
        sql("COMMIT")

    def test_it(self) -> None: ...


@fault(COMMITS, refused("COMMIT"))
class CommitInCleanup(SmokeTest):
    """Runs COMMIT in a cleanup."""

    def test_it(self) -> None:
        write()
        self.addCleanup(sql, "COMMIT")


@fault(COMMITS, fails("setUpClass", "'default'", "COMMIT", outcomes=("errored", "errored"),
                      word="refused"))  # fmt: skip
class CommitInSetUpClass(SmokeTest):
    """Runs COMMIT in setUpClass."""

    @classmethod
    def setUpClass(cls) -> None:
        write()
        sql("COMMIT")

    def test_1(self) -> None: ...

    def test_2(self) -> None: ...


def _write_and_commit() -> Any:
    write()
    sql("COMMIT")


@fault(
    COMMITS,
    fails("setUpModule", "'default'", "COMMIT", word="refused"),
    module={"setUpModule": _write_and_commit},
)
class CommitInSetUpModule(SmokeTest):
    """Runs COMMIT in setUpModule."""

    def test_it(self) -> None: ...


@fault(COMMITS, fails("COMMIT", outcomes=("passed", "errored"), word="refused"))
class CommitInTearDownClass(SmokeTest):
    """Runs COMMIT in tearDownClass, which has its own result."""

    def test_it(self) -> None:
        write()

    @classmethod
    def tearDownClass(cls) -> None:
        _write_and_commit()


@fault(COMMITS, fails("COMMIT", outcomes=("errored", "passed"), word="refused"))
class FixturesAfterCommit(SmokeTest):
    """Runs COMMIT in a class with fixtures, which are intact for the next test."""

    @classmethod
    def setUpClass(cls) -> None:
        write("setUpClass")

    def test_1(self) -> None:
        self.assertEqual(_count(), 3)
        write()
        sql("COMMIT")

    def test_2(self) -> None:
        self.assertEqual(_count(), 3)


@fault(ISOLATED, passes("passed", "passed"))
class FixturesAfterClose(SmokeTest):
    """Closes the connection in a class with fixtures, which run again."""

    @classmethod
    def setUpClass(cls) -> None:
        write("setUpClass")

    def test_1(self) -> None:
        from django.db import connection  # noqa: PLC0415

        self.assertEqual(_count(), 3)
        connection.close()

    def test_2(self) -> None:
        self.assertEqual(_count(), 3)
