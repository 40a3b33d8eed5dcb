"""The example site under a real application server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.servers.client import Response, get
from tests.servers.exposition import Exposition
from tests.servers.processes import Server, children, wait_for

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example"

#: variables of the tests' own surroundings that would change how the site behaves
_FOREIGN = (
    "DJANGO_", "EXAMPLE_", "SMOKETEST_", "PROMETHEUS_", "GUNICORN_", "STATE_DIRECTORY",
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONWARNINGS", "MAKE",
)  # fmt: skip

#: from the address to listen on to a command line
Command = Callable[[str], list[str]]


def clean_environment() -> dict[str, str]:
    """The environment of the tests without what would change how the site behaves."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}


def gunicorn(*, workers: int = 4, worker_class: str = "sync", threads: int = 1) -> Command:
    """gunicorn, as most Django sites run it."""
    return lambda address: [
        sys.executable, "-m", "gunicorn", "shop.wsgi:application",
        f"--bind={address}", f"--workers={workers}", f"--worker-class={worker_class}",
        f"--threads={threads}", "--graceful-timeout=3", "--no-control-socket",
        "--access-logfile=-", "--access-logformat=worker %(p)s answered %(U)s with %(s)s",
    ]  # fmt: skip


def uvicorn() -> Command:
    """uvicorn, one process and one event loop."""
    return lambda address: [
        sys.executable, "-m", "uvicorn", "shop.asgi:application",
        f"--host={address.partition(':')[0]}", f"--port={address.partition(':')[2]}",
        "--lifespan=off",
    ]  # fmt: skip


class ExampleSite(Server):
    """`example/` with its data in a folder of its own; environment variables steer it."""

    name = "example"

    def __init__(self, server: Command | None = None, **environment: str) -> None:
        super().__init__()
        self.server = server or gunicorn()
        self.variables = environment

    # -- the server --------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the database and its rows."""
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
            "PYTHONPATH": str(_folder_of_the_package()),
            "PYTHONUNBUFFERED": "1",
            "EXAMPLE_DATA_DIR": str(self.data_folder),
            **self.variables,
        }

    def is_ready(self) -> bool:
        """Whether a page answers; which one does not matter."""
        return self.get("/", timeout=10).status < 500

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
        return wait_for(
            self.workers, lambda found: len(found) == count, within=15, what=f"{count} workers"
        )


def _folder_of_the_package() -> Path:
    """Where these tests import `smoketest` from: the checkout, or an installed wheel."""
    spec = importlib.util.find_spec("smoketest")
    assert spec is not None, "smoketest is not importable"
    assert spec.origin is not None, "smoketest is no package"
    return Path(spec.origin).parents[1]
