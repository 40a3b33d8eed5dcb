"""Exit codes of the command in a subprocess, and cleanup after SIGINT and SIGTERM."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from xml.etree import ElementTree

import pytest

from smoketest.cli.exits import Exit
from smoketest.store.directory import StateFolder
from smoketest.store.locks import HostLock
from tests.cli.site import FAILS, HANGS, Process, Site
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import wait_for
from tests.servers.site import require_module

#: One test passes; the other inserts a row and then hangs inside its transaction.
WRITES_AND_HANGS = """
class A(SmokeTest):
    def test_passes(self):
        pass

class B(SmokeTest):
    timeout = 60
    def test_writes(self):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO ledger (entry) VALUES ('from a smoke test')")
            {then}
"""
SLEEPS = WRITES_AND_HANGS.format(then='print("hanging", flush=True); time.sleep(60)')
#: Hangs inside a statement on the database server.
SLEEPS_ON_SERVER = WRITES_AND_HANGS.format(
    then='print("hanging", flush=True); cursor.execute("SELECT pg_sleep(60)")'
)
TABLE = "CREATE TABLE ledger (entry text)"


def test_passed(site: Site) -> None:
    assert site.run()[0] == Exit.PASSED == 0


def test_failed(site: Site) -> None:
    site.smoke(FAILS)
    assert site.run()[0] == Exit.FAILED == 1


def test_failed__is_printed_once(site: Site) -> None:
    """The message is in the report; standard error has the location."""
    site.smoke(FAILS.replace("'x'", "'the shop is shut'"))
    _, stdout, stderr = site.run()
    assert (stdout.count("the shop is shut"), stderr.count("the shop is shut")) == (1, 0)
    assert re.search(r"failed    shop.smoke.T.test_it \(.*\) at shop/smoke.py:\d+\n", stderr)


@pytest.mark.parametrize("skip_checks", [True, False])
def test_store__of_a_newer_release(site: Site, skip_checks: bool) -> None:
    """The reason is printed once, with both remedies, and no results are said to be stored."""
    assert site.run()[0] == 0
    store = site.folder / "state" / "results.sqlite3"
    with closing(sqlite3.connect(store)) as database:
        database.execute("PRAGMA user_version = 99")
    code, _, stderr = site.run(*(["--skip-checks"] if skip_checks else []))
    assert code == 0
    assert stderr.count("was written by a newer django-smoketest") == 1
    assert "Upgrade django-smoketest in this process or, after a downgrade, delete the" in stderr
    assert "Results were not stored." in stderr.splitlines()[-1]


def test_passed__failing_warning(site: Site) -> None:
    """A failing test of severity warning does not change the exit code."""
    site.smoke(FAILS.replace("def", "severity = 'warning'\n    def"))
    assert site.run()[0] == 0


def test_failed__test_timed_out(site: Site) -> None:
    """The exit code is 1 if a test times out; 4 is for the timeout of the run."""
    site.smoke(HANGS.replace("60", "0.1", 1))
    assert site.run()[0] == 1


def test_failed__failfast(site: Site) -> None:
    """Tests that --failfast did not run do not change the exit code."""
    site.smoke(FAILS + "\n    def test_other(self):\n        pass\n")
    code, stdout, _ = site.run("--failfast")
    assert code == 1
    assert "tests not run: 1" in stdout


def test_failed__collection_error(site: Site) -> None:
    """A collection error fails any selection, because the module may contain the selected test."""
    site.smoke("\nimport nonsense")
    code, stdout, stderr = site.run("shop.smoke.T.test_it", "--tag", "db")
    assert code == 1
    assert "shop.smoke errored: cannot be imported: No module named 'nonsense'" in stdout
    assert "Traceback" not in stderr


def test_failed__site_unreachable(site: Site) -> None:
    """A site that cannot be reached fails the command."""
    code, stdout, stderr = site.run("--url", "http://127.0.0.1:1/smoketest/")
    assert (code, stdout) == (1, "")
    assert "http://127.0.0.1:1/smoketest/ cannot be reached: " in stderr
    assert "Connection refused" in stderr


def test_usage(site: Site) -> None:
    assert site.run("--nonsense")[0] == Exit.USAGE == 2


def test_usage__setting(site: Site) -> None:
    site.smoke(FAILS, SMOKETEST_TIMEOUT="soon")
    code, stdout, stderr = site.run()
    assert (code, stdout) == (2, "")
    assert "SMOKETEST_TIMEOUT is 'soon'" in stderr


def test_no_match__no_tests(site: Site) -> None:
    (site.folder / "shop" / "smoke.py").unlink()
    for arguments in ((), ("--failed",), ("--list",)):
        code, stdout, stderr = site.run(*arguments)
        assert (code, stdout) == (Exit.NOTHING, "") == (3, "")
        assert "Create a smoke.py module" in stderr
        assert "Traceback" not in stderr


def test_no_match__unknown_name(site: Site) -> None:
    """If one of the names is unknown, no test runs."""
    code, stdout, stderr = site.run("shop.smoke.T", "shop.smoke.S.test_it")
    assert (code, stdout) == (3, "")
    assert "No smoke test is named shop.smoke.S.test_it. Did you mean shop.smoke.T" in stderr
    assert "To see all tests, run manage.py smoketest --list." in stderr


def test_timed_out__run(site: Site) -> None:
    """--run-timeout exits with 4."""
    site.smoke(HANGS.replace('print("hanging", flush=True)', "pass"))
    code, stdout, _ = site.run("--run-timeout", "0.3s", "--format", "json")
    assert code == Exit.TIMED_OUT == 4
    (result,) = json.loads(stdout)["results"]
    assert result["message"] == "the run timed out after 0.3 s"


def test_timed_out__waiting_for_another_run(site: Site) -> None:
    """A run in progress that does not end before the deadline exits with 4."""
    site.run()
    run_lock = HostLock(StateFolder(site.folder / "state", 0o600), "run")
    with run_lock.held() as is_ours:
        assert is_ours
        code, stdout, stderr = site.run("--until-stable", "0.4s", "--deadline", "0.5s")
    assert (code, stdout) == (4, "")
    assert re.search(r"no result: Another run did not end within 0\.[45]\d* s", stderr)


# SIGINT and SIGTERM

SIGNALS = [(signal.SIGINT, Exit.INTERRUPTED, 130), (signal.SIGTERM, Exit.TERMINATED, 143)]


@pytest.fixture
def ledger(site: Site) -> Iterator[sqlite3.Connection]:
    """A table that the smoke tests of the site write to."""
    with closing(sqlite3.connect(site.folder / "db", timeout=1)) as database:
        database.execute(TABLE)
        database.commit()
        yield database


@pytest.mark.parametrize("workers", [4, 0])
@pytest.mark.parametrize(("number", "name", "code"), SIGNALS)
def test_interrupt(
    site: Site, ledger: sqlite3.Connection, number: int, name: Exit, code: int, workers: int
) -> None:
    """Completed results are printed, the transaction is rolled back and the lock is released."""
    site.smoke(SLEEPS, SMOKETEST_WORKERS=workers)
    process = site.start()
    process.wait_for("hanging")
    process.wait_for(r"passed    shop\.smoke\.A\.test_passes")
    assert process.end(number) == name == code
    assert "tests passed: 1" in process.stdout
    assert "tests not run: 1" in process.stdout
    assert process.stdout.startswith("hanging\nFAIL\n")
    assert "Traceback" not in process.stdout + process.stderr
    ledger.execute("INSERT INTO ledger (entry) VALUES ('from another')")
    assert ledger.execute("SELECT entry FROM ledger").fetchall() == [("from another",)]


@pytest.mark.parametrize("workers", [4, 0])
def test_interrupt__twice(site: Site, ledger: sqlite3.Connection, workers: int) -> None:
    """A second SIGINT during shutdown ends the process without a traceback."""
    site.smoke(SLEEPS, SMOKETEST_WORKERS=workers)
    process = site.start()
    process.wait_for("hanging")
    process.popen.send_signal(signal.SIGINT)
    time.sleep(0.02)
    assert process.end(signal.SIGINT) in {130, -signal.SIGINT}, process.stderr
    ledger.execute("INSERT INTO ledger (entry) VALUES ('from another')")
    assert ledger.execute("SELECT entry FROM ledger").fetchall() == [("from another",)]


@pytest.mark.parametrize("to_file", [False, True])
@pytest.mark.parametrize("format_name", ["json", "junit", "ndjson"])
def test_interrupt__format(site: Site, format_name: str, to_file: bool) -> None:
    """The output is a complete document although the run was interrupted."""
    site.smoke(HANGS.replace('print("hanging", flush=True)', "open('hanging', 'w').close()"))
    path = site.folder / "report"
    process = site.start("--format", format_name, *(["--output", str(path)] if to_file else []))
    wait_for((site.folder / "hanging").exists, what="the test")
    assert process.end(signal.SIGINT) == 130
    content = path.read_text() if to_file else process.stdout
    match format_name:
        case "json":
            assert json.loads(content)["cut_short_by"] == "interrupt"
        case "ndjson":
            events = [json.loads(line) for line in content.splitlines()]
            assert [event["event"] for event in events] == ["start", "running", "report"]
        case "junit":
            suites = ElementTree.fromstring(content)  # noqa: S314 - trusted XML
            assert suites.find(".//skipped").attrib == {  # type: ignore[union-attr]
                "message": "not run: the run was interrupted"
            }


@pytest.mark.parametrize(("number", "name", "code"), SIGNALS)
def test_interrupt__waiting_for_another_run(site: Site, number: int, name: Exit, code: int) -> None:
    """An interrupted wait prints no report and does not affect the run in progress."""
    site.run()
    run_lock = HostLock(StateFolder(site.folder / "state", 0o600), "run")
    with run_lock.held() as is_ours:
        assert is_ours
        process = site.start()
        process.wait_for("Another run is in progress; waiting for it")
        assert process.end(number) == name == code
        assert process.stdout == ""
        assert "Traceback" not in process.stderr
        assert run_lock.acquire() is None
    assert site.run()[0] == 0


def test_interrupt__until_stable(site: Site) -> None:
    """SIGINT between two runs of --until-stable exits with 130."""
    process = site.start("--until-stable", "60s")
    process.wait_for("passing for 0 of 60 s")
    assert process.end(signal.SIGINT) == 130
    assert process.stderr.endswith("Interrupted.\n")


def test_interrupt__next_run(site: Site) -> None:
    """An interrupted test does not count as abandoned in the next run."""
    site.smoke(HANGS)
    process = site.start()
    process.wait_for("hanging")
    process.end(signal.SIGINT)
    site.smoke(FAILS.replace("self.fail('x')", "pass"))
    code, stdout, _ = site.run()
    assert (code, stdout.partition("\n")[0]) == (0, "PASS")


# PostgreSQL


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    require_module("psycopg", "psycopg[binary]")
    with PostgreSQL() as server:
        server.sql(TABLE)
        yield server


def open_transactions(server: PostgreSQL) -> str:
    """Return the client backends that have an open transaction."""
    return server.sql(
        "SELECT pid, state, query FROM pg_stat_activity"
        " WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client"
        " backend'"
    )


def start_on(site: Site, server: PostgreSQL, smoke: str, workers: int) -> Process:
    """Start the command and wait until its test holds a lock."""
    site.smoke(smoke, SMOKETEST_WORKERS=workers, DATABASES={"default": server.django()})
    process = site.start()
    process.wait_for("hanging")
    assert open_transactions(server) != ""
    return process


@pytest.mark.parametrize("workers", [4, 0])
@pytest.mark.parametrize("smoke", [SLEEPS, SLEEPS_ON_SERVER], ids=["python", "server"])
@pytest.mark.parametrize(("number", "name", "code"), SIGNALS)
def test_interrupt__postgresql(
    site: Site,
    postgresql: PostgreSQL,
    smoke: str,
    number: int,
    name: Exit,
    code: int,
    workers: int,
) -> None:
    """The server rolls back the transaction, even in the middle of a statement of 60 s."""
    process = start_on(site, postgresql, smoke, workers)
    assert process.end(number) == name == code
    wait_for(
        lambda: open_transactions(postgresql),
        lambda found: found == "",
        within=20,
        what="the end of the transaction",
    )
    assert "Traceback" not in process.stderr
    assert "tests not run: 1" in process.stdout
    postgresql.sql("SET lock_timeout = '20s'; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
    assert postgresql.sql("SELECT count(*) FROM ledger") == "0"


def test_interrupt__just_before_wait(site: Site) -> None:
    """A signal that arrives just before the main thread waits ends the command."""
    # Like the C signal handler, `interrupt_main` sets a flag without waking the main thread.
    hangs = "import _thread; _thread.interrupt_main(); time.sleep(60)"
    site.smoke(HANGS.replace("time.sleep(60)", hangs))
    assert site.start().popen.wait(30) == 130
