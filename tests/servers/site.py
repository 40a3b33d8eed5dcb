"""Example site under a real application server."""

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

#: environment variables that would change how the site behaves
_FOREIGN = (
    "DJANGO_", "EXAMPLE_", "SMOKETEST_", "PROMETHEUS_", "GUNICORN_", "STATE_DIRECTORY",
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONWARNINGS", "MAKE",
)  # fmt: skip

#: Function that returns a command line for a listen address.
Command = Callable[[str], list[str]]


def require_module(name: str, package: str) -> None:
    """Skip the test, or fail it in CI, if the module is missing."""
    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed: pip install {package}")


def clean_environment() -> dict[str, str]:
    """Return the environment without variables that would change how the site behaves."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}


def gunicorn(
    *options: str, workers: int = 4, worker_class: str = "sync", threads: int = 1
) -> Command:
    """Return a command for gunicorn."""

    def command(address: str) -> list[str]:
        if worker_class == "gevent":
            require_module("gevent", "gevent")
        return [
            sys.executable, "-m", "gunicorn", "shop.wsgi:application",
            f"--bind={address}", f"--workers={workers}", f"--worker-class={worker_class}",
            f"--threads={threads}", "--graceful-timeout=3", "--no-control-socket",
            "--access-logfile=-", "--access-logformat=worker %(p)s answered %(U)s with %(s)s",
            *options,
        ]  # fmt: skip

    return command


def uwsgi(*options: str, workers: int = 2) -> Command:
    """Return a command for uWSGI, with threads enabled, from the current environment."""

    def command(address: str) -> list[str]:
        binary = Path(sys.executable).parent / "uwsgi"
        if not binary.exists():
            missing("uWSGI is not installed: pip install pyuwsgi")
        return [
            str(binary), f"--http-socket={address}", "--module=shop.wsgi:application",
            "--master", f"--processes={workers}", "--enable-threads", "--need-app",
            "--die-on-term", "--worker-reload-mercy=3", "--lazy-apps",
            # Not SIGHUP: a wheel of uWSGI would lose its virtual environment.
            "--touch-workers-reload=$(EXAMPLE_DATA_DIR)/reload", *options,
        ]  # fmt: skip

    return command


def uvicorn(*options: str) -> Command:
    """Return a command for uvicorn, by default with one process and one event loop."""
    return lambda address: [
        sys.executable, "-m", "uvicorn", "shop.asgi:application",
        f"--host={address.partition(':')[0]}", f"--port={address.partition(':')[2]}",
        "--lifespan=off", *options,
    ]  # fmt: skip


class ExampleSite(Server):
    """`example/` with its own data folder, configured by environment variables.

    The default database is on the running server `database`, or else in SQLite.
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

    # -- server ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the databases and their rows."""
        if isinstance(self.database, PostgreSQL):
            require_module("psycopg", "psycopg[binary]")
        elif isinstance(self.database, MariaDB) and importlib.util.find_spec("MySQLdb") is None:
            require_module("pymysql", "PyMySQL")
        self.data_folder.mkdir()
        self.manage("prepare_shop", "--verbosity=0")

    def command(self) -> list[str]:
        """Return the command line of the application server."""
        return self.server(self.address)

    def working_directory(self) -> Path:
        """Return the folder of the example project."""
        return EXAMPLE

    def environment(self) -> dict[str, str]:
        """Return a clean environment with the variables of the example."""
        return clean_environment() | {
            # The checkout comes last, so that tests of a wheel import the installed package.
            "PYTHONPATH": f"{_package_folder()}{os.pathsep}{ROOT}",
            "PYTHONUNBUFFERED": "1",
            "EXAMPLE_DATA_DIR": str(self.data_folder),
            "EXAMPLE_DATABASE": self.database.url if self.database else "",
            # Most tests expect only the smoke tests of the shop itself.
            "EXAMPLE_SKIP_APPS": "smoketest_essentials smoketest_http",
            **self.variables,
        }

    def is_ready(self) -> bool:
        """Return whether any page responds."""
        return self.get("/").status < 500

    @property
    def data_folder(self) -> Path:
        """Return the folder with all state of the example."""
        return self.folder / "data"

    def workers(self) -> list[int]:
        """Return the worker processes."""
        return children(self.pid)

    # -- requests ----------------------------------------------------------------------------

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, *, timeout: float = 60
    ) -> Response:
        """GET a path over a new connection."""
        return get(self.port, path, headers, timeout=timeout)

    def run_tests(self, query: str = "") -> dict[str, Any]:
        """Run the tests, ignoring stored results, and return the JSON report."""
        headers = {"Accept": "application/json", "Cache-Control": "no-cache"}
        response = self.get(f"/smoketest/{query}", headers)
        assert response.status in (200, 500), f"{response.status}: {response.text}"
        report: dict[str, Any] = response.json()
        return report

    def metrics(self) -> Exposition:
        """Scrape the text format."""
        response = self.get("/smoketest/metrics", {"Accept": "text/plain"})
        assert response.status == 200, f"{response.status}: {response.text}"
        return Exposition(response.text)

    # -- administration ----------------------------------------------------------------------

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` in a separate process."""
        return self.run(sys.executable, "manage.py", *arguments, check=check)

    def break_(self, *names: str) -> None:
        """Make tests fail until `repair` is called."""
        (self.data_folder / "break").write_text("\n".join(names))

    def repair(self) -> None:
        """Undo `break_`."""
        (self.data_folder / "break").unlink(missing_ok=True)

    def wait_for_workers(self, count: int) -> list[int]:
        """Wait for this number of worker processes and return them."""
        return wait_for(self.workers, lambda found: len(found) == count, what=f"{count} workers")

    def wait_until_all_workers_respond(self, count: int) -> None:
        """Send requests until each gunicorn worker has responded, and so has imported its code."""

        def responding_workers() -> set[str]:
            path = "/smoketest/?test=no.such.test"
            with ThreadPoolExecutor(2 * count) as pool:
                list(pool.map(lambda _: self.get(path), range(4 * count)))
            answered = set(re.findall(r"worker <?(\d+)>? answered", self.log))
            return answered & set(map(str, self.workers()))

        wait_for(
            responding_workers, lambda pids: len(pids) == count, what="a response of each worker"
        )


def _package_folder() -> Path:
    """Return the folder from which `smoketest` is imported: the checkout, or an installed wheel."""
    spec = importlib.util.find_spec("smoketest")
    assert spec is not None, "smoketest is not importable"
    assert spec.origin is not None, "smoketest is not a package"
    return Path(spec.origin).parents[1]
