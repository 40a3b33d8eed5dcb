"""`bench_site` of one peer under gunicorn."""

from __future__ import annotations

from pathlib import Path

from harness import Environment, as_variable

from tests.servers.client import get
from tests.servers.processes import Server, children, is_alive


class Site(Server):
    """Sync workers, as most Django sites are served; `settings` are added to those of the site."""

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
        """gunicorn's command line."""
        return [
            str(self._site.python), "-m", "gunicorn", "django.core.wsgi:get_wsgi_application()",
            f"--bind={self.address}", f"--workers={self.workers}", "--worker-class=sync",
            "--no-control-socket", "--log-level=warning", *self._gunicorn,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """With all that the site wants to know."""
        return self._site.variables(
            self.folder,
            BENCHMARK_SUITE=self._suite,
            BENCHMARK_SETTINGS=as_variable(self._settings),
        )

    def is_ready(self) -> bool:
        """Whether the other page answers, and all workers are there."""
        return get(self.port, "/page").status == 200 and len(self.worker_ids()) == self.workers

    def worker_ids(self) -> list[int]:
        """The processes that answer requests."""
        return children(self.pid)

    def lost(self, workers: list[int]) -> int:
        """How many of these are gone."""
        return sum(not is_alive(worker) for worker in workers)

    @property
    def runs_file(self) -> Path:
        """Where the suite `crowd` notes its runs."""
        return self.folder / "runs"
