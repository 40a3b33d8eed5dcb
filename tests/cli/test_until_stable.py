"""`--until-stable` with real sites: healthy, failing, restarted and paused."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.site import FAILS, HANGS, PASSES, Run, Site
from tests.servers.client import get
from tests.servers.processes import free_port, wait_for

TOKEN = "nothing-but-a-test-token"

#: Passes once a file exists.
WHEN_READY = """
import os
class T(SmokeTest):
    def test_it(self):
        self.assertTrue(os.path.exists("ready"), "not ready yet")
"""


class ServedSite:
    """A web server for the site that can be stopped and started."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/smoketest/"
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "django", "runserver", f"127.0.0.1:{self.port}", "--noreload"],
            cwd=self.site.folder, env=self.site.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def stop(self) -> None:
        if self.popen:
            self.popen.kill()
            self.popen.wait()

    def is_up(self) -> bool:
        try:
            return get(self.port, "/").status == 404
        except OSError:
            return False


@pytest.fixture
def served(site: Site) -> Iterator[ServedSite]:
    served = ServedSite(site)
    site.smoke(PASSES, ALLOWED_HOSTS=["127.0.0.1"], SMOKETEST_TOKENS=[TOKEN])
    yield served
    served.stop()


def assert_stable(stderr: str) -> None:
    """Assert that the last two rounds passed, the second at least 1 s after the first."""
    first, second = re.findall(r"PASS, .*; passing for (\d+) of 1 s", stderr)
    assert int(first) == 0
    assert int(second) >= 1


def test_healthy(site: Site) -> None:
    """Rounds are printed to standard error, and the last report to standard output."""
    code, stdout, stderr = site.run("--until-stable", "1s", "--deadline", "50s")
    assert code == 0
    assert stdout.startswith("PASS\n")
    assert_stable(stderr)
    assert "Running 1 test." not in stderr


def test_becomes_healthy(site: Site) -> None:
    """The command waits until the test passes."""
    site.smoke(WHEN_READY)
    process = site.start("--until-stable", "1s", "--deadline", "120s")
    process.wait_for("FAIL, 1 tests in .* s; 1 critical: shop.smoke.T.test_it")
    (site.folder / "ready").touch()
    assert process.wait() == 0
    assert_stable(process.stderr)
    assert process.stdout.startswith("PASS\n")


def test_never_healthy(site: Site) -> None:
    """The command exits with 4 and prints the last report and the reason."""
    site.smoke(FAILS)
    code, stdout, stderr = site.run("--until-stable", "1s", "--deadline", "1.5s")
    assert code == 4
    assert stdout.startswith("FAIL\n")
    assert (
        "Not stable: the critical tests can no longer pass for 1 s before the deadline of 1.5 s."
        in stderr
    )


def test_paused(site: Site) -> None:
    """A stored PASS does not count while runs are paused."""
    site.run()
    site.run("--pause", "1h", "--reason", "moving the database")
    code, stdout, stderr = site.run("--until-stable", "0.5s", "--deadline", "1s")
    assert (code, stdout) == (4, "")
    assert "no result: Runs are paused until" in stderr
    assert "(moving the database), so nothing was run. End the pause with --resume." in stderr


def test_run_timeout(site: Site) -> None:
    """A run that reaches --run-timeout fails its round."""
    site.smoke(HANGS, SMOKETEST_WORKERS=1)
    # After one round there is too little time left for another.
    code, _, stderr = site.run(
        "--until-stable", "49.9s", "--deadline", "50s", "--run-timeout", "0.3s"
    )
    assert code == 4
    (duration,) = re.findall(r"FAIL, 1 tests in ([\d.]+) s; ", stderr)
    assert 0.3 <= float(duration) < 30


def test_selection__no_match(run: Run) -> None:
    """An unknown name exits with 3 at once."""
    code, _, stderr = run("--until-stable", "1s", "app0.smoke.S")
    assert code == 3
    assert "No smoke test is named app0.smoke.S" in stderr


def test_verbosity_0(run: Run) -> None:
    """Only the report is printed."""
    code, stdout, stderr = run("--until-stable", "0.1s", "-v", "0")
    assert (code, stderr) == (0, "")
    assert stdout.startswith("PASS\n")


# A deployed site


@pytest.mark.e2e
def test_url(site: Site, served: ServedSite) -> None:
    """The report and exit code of the site are used; the token is an option or a variable."""
    served.start()
    wait_for(served.is_up, what="the site")
    code, stdout, stderr = site.run("--url", served.url)
    assert (code, stdout) == (2, "")
    assert "returned 401: the token is missing" in stderr
    code, stdout, stderr = site.run("--url", served.url, "--token", TOKEN)
    assert (code, stderr) == (0, "")
    assert stdout.startswith("PASS\ntest classes: 1\ntests run: 1\n")
    process = site.start("--url", served.url, "shop.smok", SMOKETEST_TOKEN=TOKEN)
    assert process.wait() == 3
    assert "No smoke test matches test shop.smok. Did you mean shop.smoke" in process.stderr


@pytest.mark.e2e
def test_url__restarted(site: Site, served: ServedSite) -> None:
    """A site that is down, then fails, then is deployed again is polled until it is stable."""
    (site.folder / "shop" / "smoke.py").write_text("import nonsense")
    arguments = ("--until-stable", "1s", "--deadline", "300s", "--token", TOKEN, "-v", "1")
    process = site.start("--url", served.url, *arguments)
    process.wait_for("no result: .* cannot be reached: .*Connection refused")
    served.start()
    process.wait_for("FAIL, 1 tests in .* 1 critical: shop.smoke")
    served.stop()
    site.smoke(PASSES)
    served.start()
    assert process.wait() == 0
    assert process.stdout.startswith("PASS\n")
    assert "Traceback" not in process.stderr


def test_url__no_response(site: Site) -> None:
    """A site that never responds exits with 4, and each attempt is limited by --run-timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        arguments = ("--url", url, "--run-timeout", "0.2s")
        no_response = rf"{url} did not respond within 0\.[12]\d* s\."
        code, _, stderr = site.run(*arguments)
        assert code == 4
        assert re.search(no_response, stderr)
        code, _, stderr = site.run(*arguments, "--until-stable", "0.8s", "--deadline", "0.9s")
        assert code == 4
        assert re.search(f"no result: {no_response}", stderr)
        assert "Not stable" in stderr
        process = site.start(*arguments, "--until-stable", "0.1s", "--deadline", "300s")
        process.wait_for(f"no result: {no_response}", count=2)
        assert process.end(signal.SIGINT) == 130


def test_url__interrupted(site: Site) -> None:
    """SIGINT does not wait for a response."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        process = site.start("--url", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        connection, _ = silent.accept()
        with connection:
            assert process.end(signal.SIGINT) == 130
    # In development mode, Python may also warn about the unclosed socket.
    assert process.stderr.splitlines()[0] == "Interrupted."
    assert "Traceback (" not in process.stderr
