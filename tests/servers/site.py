"""The example site under a real application server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.servers.client import Response, get
from tests.servers.exposition import Exposition
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import Server, children, wait_for
from tests.servers.services import missing

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example"

#: variables of the tests' own surroundings that would change how the site behaves
_FOREIGN = (
    "DJANGO_", "EXAMPLE_", "SMOKETEST_", "PROMETHEUS_", "GUNICORN_", "STATE_DIRECTORY",
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONWARNINGS", "MAKE",
)  # fmt: skip

#: from the address to listen on to a command line
Command = Callable[[str], list[str]]


def require_module(name: str, package: str) -> None:
    """Without the module the test is skipped, or fails in CI."""
    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed: pip install {package}")


def clean_environment() -> dict[str, str]:
    """The environment of the tests without what would change how the site behaves."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}


def gunicorn(*, workers: int = 4, worker_class: str = "sync", threads: int = 1) -> Command:
    """gunicorn, as most Django sites run it."""

    def command(address: str) -> list[str]:
        if worker_class == "gevent":
            require_module("gevent", "gevent")
        return [
            sys.executable, "-m", "gunicorn", "shop.wsgi:application",
            f"--bind={address}", f"--workers={workers}", f"--worker-class={worker_class}",
            f"--threads={threads}", "--graceful-timeout=3", "--no-control-socket",
            "--access-logfile=-", "--access-logformat=worker %(p)s answered %(U)s with %(s)s",
        ]  # fmt: skip

    return command


def uwsgi(*options: str, workers: int = 2) -> Command:
    """uWSGI, with threads enabled, of the environment that runs the tests."""

    def command(address: str) -> list[str]:
        binary = Path(sys.executable).parent / "uwsgi"
        if not binary.exists():
            missing("uWSGI is not installed: pip install pyuwsgi")
        return [
            str(binary), f"--http-socket={address}", "--module=shop.wsgi:application",
            "--master", f"--processes={workers}", "--enable-threads", "--need-app",
            "--die-on-term", "--worker-reload-mercy=3", "--lazy-apps",
            # Not by SIGHUP: for that, a wheel of uWSGI forgets its virtual environment.
            "--touch-workers-reload=$(EXAMPLE_DATA_DIR)/reload", *options,
        ]  # fmt: skip

    return command


def uvicorn() -> Command:
    """uvicorn, one process and one event loop."""
    return lambda address: [
        sys.executable, "-m", "uvicorn", "shop.asgi:application",
        f"--host={address.partition(':')[0]}", f"--port={address.partition(':')[2]}",
        "--lifespan=off",
    ]  # fmt: skip


class ExampleSite(Server):
    """`example/` with its data in a folder of its own; environment variables steer it.

    Its own database is on a `database` server that runs already, else on SQLite.
    """

    name = "example"

    def __init__(
        self,
        server: Command | None = None,
        *,
        database: PostgreSQL | MariaDB | None = None,
        **environment: str,
    ) -> None:
        super().__init__()
        self.server = server or gunicorn()
        self.database = database
        self.variables = environment

    # -- the server --------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the databases and their rows."""
        if isinstance(self.database, PostgreSQL):
            require_module("psycopg", "psycopg[binary]")
        elif isinstance(self.database, MariaDB) and importlib.util.find_spec("MySQLdb") is None:
            require_module("pymysql", "PyMySQL")
        self.data_folder.mkdir()
        self.manage("prepare_shop", "--verbosity=0")

    def command(self) -> list[str]:
        """The application server's command line."""
        return self.server(self.address)

    def working_directory(self) -> Path:
        """Where the project package of the example stands."""
        return EXAMPLE

    def environment(self) -> dict[str, str]:
        """A clean environment, and the example's own variables."""
        return clean_environment() | {
            # The tests' own folder comes last: where a wheel is tested, it holds no package.
            "PYTHONPATH": f"{_folder_of_the_package()}{os.pathsep}{ROOT}",
            "PYTHONUNBUFFERED": "1",
            "EXAMPLE_DATA_DIR": str(self.data_folder),
            "EXAMPLE_DATABASE": self.database.url if self.database else "",
            # Most tests know the smoke tests that the shop has written itself.
            "EXAMPLE_SKIP_APPS": "smoketest_essentials smoketest_http",
            **self.variables,
        }

    def is_ready(self) -> bool:
        """Whether a page answers; which one does not matter."""
        return self.get("/").status < 500

    @property
    def data_folder(self) -> Path:
        """All state of the example."""
        return self.folder / "data"

    def workers(self) -> list[int]:
        """The processes that answer requests."""
        return children(self.pid)

    # -- requests ----------------------------------------------------------------------------

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, *, timeout: float = 60
    ) -> Response:
        """GET a path over a fresh connection."""
        return get(self.port, path, headers, timeout=timeout)

    def run_tests(self, query: str = "") -> dict[str, Any]:
        """Run the tests now by a request, whatever is stored; the JSON answer."""
        headers = {"Accept": "application/json", "Cache-Control": "no-cache"}
        response = self.get(f"/smoketest/{query}", headers)
        assert response.status in (200, 500), f"{response.status}: {response.text}"
        report: dict[str, Any] = response.json()
        return report

    def metrics(self) -> Exposition:
        """One scrape in the text format."""
        response = self.get("/smoketest/metrics", {"Accept": "text/plain"})
        assert response.status == 200, f"{response.status}: {response.text}"
        return Exposition(response.text)

    # -- the operator ------------------------------------------------------------------------

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`manage.py` in a process of its own."""
        return self.run(sys.executable, "manage.py", *arguments, check=check)

    def break_(self, *names: str) -> None:
        """Make tests fail on purpose, at once and until `mend`."""
        (self.data_folder / "break").write_text("\n".join(names))

    def mend(self) -> None:
        """Undo `break_`."""
        (self.data_folder / "break").unlink(missing_ok=True)

    def wait_for_workers(self, count: int) -> list[int]:
        """The processes that answer requests, once there are so many."""
        return wait_for(self.workers, lambda found: len(found) == count, what=f"{count} workers")

    def wait_until_each_answers(self, count: int) -> None:
        """Send requests until each of so many workers of gunicorn has answered one.

        They have imported the site and its smoke modules then.
        """

        def answering() -> set[str]:
            path = "/smoketest/?test=none.of.this.name"
            with ThreadPoolExecutor(2 * count) as pool:
                list(pool.map(lambda _: self.get(path), range(4 * count)))
            answered = set(re.findall(r"worker <?(\d+)>? answered", self.log))
            return answered & set(map(str, self.workers()))

        wait_for(answering, lambda pids: len(pids) == count, what="an answer of each worker")


def _folder_of_the_package() -> Path:
    """Where these tests import `smoketest` from: the checkout, or an installed wheel."""
    spec = importlib.util.find_spec("smoketest")
    assert spec is not None, "smoketest is not importable"
    assert spec.origin is not None, "smoketest is no package"
    return Path(spec.origin).parents[1]
