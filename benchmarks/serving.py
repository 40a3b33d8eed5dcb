"""Serve `bench_site` of one peer with gunicorn."""

from __future__ import annotations

from pathlib import Path

from harness import Environment, as_variable

from tests.servers.client import get
from tests.servers.processes import Server, children, is_alive


class Site(Server):
    """A site with sync workers; `settings` override those of `bench_site`."""

    name = "site"
    stop_within = 20.0

    def __init__(
        self, environment: Environment, suite: str, *gunicorn: str, workers: int, **settings: object
    ) -> None:
        super().__init__()
        self.workers = workers
        self._site = environment
        self._suite = suite
        self._gunicorn = gunicorn
        self._settings = settings

    def command(self) -> list[str]:
        """Return the command line of gunicorn."""
        return [
            str(self._site.python), "-m", "gunicorn", "django.core.wsgi:get_wsgi_application()",
            f"--bind={self.address}", f"--workers={self.workers}", "--worker-class=sync",
            "--no-control-socket", "--log-level=warning", *self._gunicorn,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the site."""
        return self._site.variables(
            self.folder,
            BENCHMARK_SUITE=self._suite,
            BENCHMARK_SETTINGS=as_variable(self._settings),
        )

    def is_ready(self) -> bool:
        """Return whether the other page responds and all workers are running."""
        return get(self.port, "/page").status == 200 and len(self.worker_ids()) == self.workers

    def worker_ids(self) -> list[int]:
        """Return the process ids of the workers."""
        return children(self.pid)

    def lost(self, workers: list[int]) -> int:
        """Return how many of the workers no longer exist."""
        return sum(not is_alive(worker) for worker in workers)

    @property
    def runs_file(self) -> Path:
        """File in which the suite `crowd` notes its runs."""
        return self.folder / "runs"
