"""The test harness: servers start, report their logs, and leave no processes behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.client import get
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import Server, ServerError, is_alive, wait_for
from tests.servers.services import require
from tests.servers.site import require_module

pytestmark = pytest.mark.e2e


class IgnoresSigterm(Server):
    """Web server started by a shell that ignores SIGTERM."""

    name = "trivial"
    stop_within = 0.2
    script = "trap '' TERM; {python} -m http.server --bind 127.0.0.1 {port} & wait; wait"

    def command(self) -> list[str]:
        return ["sh", "-c", self.script.format(python=sys.executable, port=self.port)]

    def is_ready(self) -> bool:
        return get(self.port, "/").status == 200


def test_server__cleanup() -> None:
    """A failing test kills all processes, even those that ignore SIGTERM, and shows the log."""
    family: list[int] = []
    folders: list[Path] = []

    def fail_inside() -> None:
        with IgnoresSigterm() as server:
            folders.append(server.folder)
            family.extend(server.family())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail_inside()
    assert len(family) > 1
    assert not any(map(is_alive, family))
    assert not folders[0].exists()
    assert "GET / HTTP" in caught.value.__notes__[0]


class FailingToStart(IgnoresSigterm):
    """Server that prints a reason and exits."""

    script = "echo no room on board; exit 3"


def test_server__fails_to_start() -> None:
    """A server that exits at once is detected, and the error includes its output."""
    with pytest.raises(ServerError, match="ended with 3") as caught, FailingToStart():
        pass
    assert "no room on board" in caught.value.__notes__[0]


@pytest.mark.parametrize("database", [PostgreSQL, MariaDB])
def test_database__survives_kill9(database: type[PostgreSQL | MariaDB]) -> None:
    """A killed database server restarts on the same port with its committed rows."""
    with database() as server:
        server.sql("CREATE TABLE boats (name varchar(20))")
        server.sql("INSERT INTO boats VALUES ('Anna')")
        server.restart()
        server.kill9()
        server.start()
        assert server.sql("SELECT name FROM boats") == "Anna"
        assert server.django()["PORT"] == str(server.port)


class SingleProcess(IgnoresSigterm):
    """Web server without child processes."""

    script = "exec {python} -m http.server --bind 127.0.0.1 {port}"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's parent-death signal")
def test_server__dies_with_the_test_process() -> None:
    """A server dies with the test process, even after SIGKILL, if the platform supports that."""
    code = (
        "import sys\n"
        "from tests.e2e.test_servers import SingleProcess\n"
        "server = SingleProcess().__enter__()\n"
        "print(server.pid, server.folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pid, folder = tests.stdout.readline().split()
        assert is_alive(int(pid))
        tests.kill()
    shutil.rmtree(folder)
    wait_for(lambda: is_alive(int(pid)), lambda alive: not alive, what="the end of the server")


def test_missing_service__skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program skips the test with an install command, or fails it if all are required."""
    monkeypatch.delenv("SMOKETEST_TEST_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-such-server"):
        require("no-such-server")
    monkeypatch.setenv("SMOKETEST_TEST_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-server is not installed"):
        require("no-such-server")


def test_missing_module__skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing Python module is treated like a missing program."""
    require_module("pytest", "pytest")
    monkeypatch.delenv("SMOKETEST_TEST_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="pip install no-such-package"):
        require_module("no_such_module", "no-such-package")
    monkeypatch.setenv("SMOKETEST_TEST_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="no_such_module is not installed"):
        require_module("no_such_module", "no-such-package")
