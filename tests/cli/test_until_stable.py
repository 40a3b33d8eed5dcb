"""The gate of a deployment, for real: sites that become healthy, or never do, or are restarted."""

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

#: Passes as soon as a file is there.
WHEN_READY = """
import os
class T(SmokeTest):
    def test_it(self):
        self.assertTrue(os.path.exists("ready"), "not ready yet")
"""


class Served:
    """The site behind a web server of its own, which can be stopped and started."""

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
def served(site: Site) -> Iterator[Served]:
    served = Served(site)
    site.smoke(PASSES, ALLOWED_HOSTS=["127.0.0.1"], SMOKETEST_TOKENS=[TOKEN])
    yield served
    served.stop()


def assert_opened(stderr: str) -> None:
    """Assert that the last two rounds passed, the second of them at least 1 s after the first."""
    first, second = re.findall(r"PASS, .*; passing for (\d+) of 1 s", stderr)
    assert int(first) == 0
    assert int(second) >= 1


def test_healthy(site: Site) -> None:
    """A line for each round on standard error, and the last report on standard output."""
    code, stdout, stderr = site.run("--until-stable", "1s", "--deadline", "50s")
    assert code == 0
    assert stdout.startswith("PASS\n")
    assert_opened(stderr)
    assert "Running 1 test." not in stderr


def test_becomes_healthy(site: Site) -> None:
    """It waits for that, and not for longer than it must."""
    site.smoke(WHEN_READY)
    process = site.start("--until-stable", "1s", "--deadline", "120s")
    process.wait_for("FAIL, 1 tests in .* s; 1 critical: shop.smoke.T.test_it")
    (site.folder / "ready").touch()
    assert process.wait() == 0
    assert_opened(process.stderr)
    assert process.stdout.startswith("PASS\n")


def test_never_healthy(site: Site) -> None:
    """Exit code 4, by the deadline, with the last report and the reason."""
    site.smoke(FAILS)
    code, stdout, stderr = site.run("--until-stable", "1s", "--deadline", "1.5s")
    assert code == 4
    assert stdout.startswith("FAIL\n")
    assert (
        "Not stable: the critical tests can no longer pass for 1 s before the deadline of 1.5 s."
        in stderr
    )


def test_paused(site: Site) -> None:
    """A stored PASS is no reason to open it."""
    site.run()
    site.run("--pause", "1h", "--reason", "moving the database")
    code, stdout, stderr = site.run("--until-stable", "0.5s", "--deadline", "1s")
    assert (code, stdout) == (4, "")
    assert "no result: Runs are paused until" in stderr
    assert "(moving the database), so nothing was run. End the pause with --resume." in stderr


def test_round_that_was_cut(site: Site) -> None:
    """A round whose time was over says so."""
    site.smoke(HANGS, SMOKETEST_WORKERS=1)
    # After one round there is too little time left for another.
    code, _, stderr = site.run(
        "--until-stable", "49.9s", "--deadline", "50s", "--run-timeout", "0.3s"
    )
    assert code == 4
    (duration,) = re.findall(r"FAIL, 1 tests in ([\d.]+) s; ", stderr)
    assert 0.3 <= float(duration) < 30


def test_selection(run: Run) -> None:
    """What is not there will not come by waiting."""
    code, _, stderr = run("--until-stable", "1s", "app0.smoke.S")
    assert code == 3
    assert "No smoke test is named app0.smoke.S" in stderr


def test_silent(run: Run) -> None:
    """`-v 0`: the report alone."""
    code, stdout, stderr = run("--until-stable", "0.1s", "-v", "0")
    assert (code, stderr) == (0, "")
    assert stdout.startswith("PASS\n")


# A deployed site


@pytest.mark.e2e
def test_url(site: Site, served: Served) -> None:
    """The report of the site, with its exit codes; the token is in the environment or an option."""
    served.start()
    wait_for(served.is_up, what="the site")
    code, stdout, stderr = site.run("--url", served.url)
    assert (code, stdout) == (2, "")
    assert "returned 401: the token is missing" in stderr
    code, stdout, stderr = site.run("--url", served.url, "--token", TOKEN)
    assert (code, stderr) == (0, "")
    assert stdout.startswith("PASS\ntest classes: 1\ntests run: 1\n")
    process = site.start("--url", served.url, "shop.smoke.S", SMOKETEST_TOKEN=TOKEN)
    assert process.wait() == 3
    assert "No smoke test matches test shop.smoke.S. Did you mean shop.smoke.T" in process.stderr


@pytest.mark.e2e
def test_url__restarted_meanwhile(site: Site, served: Served) -> None:
    """A site that is not there yet, comes up broken and is deployed again, is waited for."""
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


def test_url__waits_as_long_as_it_is_told(site: Site) -> None:
    """A site that never answers: exit code 4, and no attempt takes all of the time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        arguments = ("--url", url, "--run-timeout", "0.2s")
        in_vain = rf"{url} did not respond within 0\.[12]\d* s\."
        code, _, stderr = site.run(*arguments)
        assert code == 4
        assert re.search(in_vain, stderr)
        code, _, stderr = site.run(*arguments, "--until-stable", "0.8s", "--deadline", "0.9s")
        assert code == 4
        assert re.search(f"no result: {in_vain}", stderr)
        assert "Not stable" in stderr
        process = site.start(*arguments, "--until-stable", "0.1s", "--deadline", "300s")
        process.wait_for(f"no result: {in_vain}", count=2)
        assert process.end(signal.SIGINT) == 130


def test_url__interrupted(site: Site) -> None:
    """Ctrl-C does not wait for the answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        process = site.start("--url", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        connection, _ = silent.accept()
        with connection:
            assert process.end(signal.SIGINT) == 130
    # In Python's development mode the library may be told of its socket.
    assert process.stderr.splitlines()[0] == "Interrupted."
    assert "Traceback (" not in process.stderr
