"""Every option of ``manage.py smoketest``, alone and together, and regular runs for real."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.test import override_settings

from smoketest import services
from smoketest.management.commands.smoketest import PASSWORD_VARIABLE
from tests import hanging
from tests.cli.site import FAILS, HANGS, PASSES, Run, Site, counting
from tests.servers.client import get
from tests.servers.exposition import Exposition
from tests.servers.processes import free_port, wait_for
from tests.servers.prometheus import Prometheus
from tests.servers.pushgateway import Pushgateway
from tests.servers.services import require

# One process


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every", "soon"], "--every: 'soon' is not a valid duration; write a number and"),
        (["--every", "0"], "'0' is not a valid duration"),
        (["--every=-5s"], "'-5s' is not a valid duration"),
        (["--every"], "--every: expected one argument"),
        (["--pause", "long", "--reason", "x"], "--pause: 'long' is not a valid duration"),
        (["--grouping", "web-1"], "'web-1' is not KEY=VALUE, such as instance=worker-1"),
        (["--grouping", "=web-1"], "is not KEY=VALUE"),
        (["--grouping", "instance="], "is not KEY=VALUE"),
        (["--every", "60s", "--serve", "0"], "'0' is not a valid [HOST:]PORT, such as 9100 or"),
        (["--every", "60s", "--serve", "65536"], "is not a valid [HOST:]PORT"),
        (["--every", "60s", "--serve", "localhost"], "is not a valid [HOST:]PORT"),
        (["--every", "60s", "--serve", "localhost:"], "is not a valid [HOST:]PORT"),
        (["--every", "60s", "--serve", "http://localhost:9100/"], "is not a valid [HOST:]PORT"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_value(run: Run, arguments: list[str], message: str) -> None:
    """Exit code 2, and what is allowed."""
    code, stdout, stderr = run(*arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve", "9100"], "--serve requires --every, the interval of the runs: --every 60s"),
        (["--every", "60s", "--serve", "9100", "--certificate", "c.pem"], "must be used together"),
        (["--every", "60s", "--serve", "9100", "--key", "k.pem"], "--certificate and --key must"),
        (["--every", "60s", "--certificate", "c.pem", "--key", "k.pem"], "require --serve"),
        (["--certificate", "c.pem", "--key", "k.pem"], "require --serve"),
        (["--reason", "x"], "--reason requires --pause"),
        (["--resume", "--reason", "x"], "--reason requires --pause"),
        (["--pause", "30m"], 'which is displayed with the results: --reason "'),
        (["--pause", "30m", "--reason", ""], "--pause requires a --reason"),
        (["--pause", "30m", "--reason", "x", "--resume"], "--resume cannot be combined"),
        # What would be ignored in silence.
        (["--pause", "30m", "--reason", "x", "--every", "60s"], "--pause"),
        (["--pause", "30m", "--reason", "x", "--textfile", "x.prom"], "--pause"),
        (["--resume", "--every", "60s"], "--resume"),
        (["--resume", "--pushgateway", "localhost:9091"], "--resume"),
        (["--grouping", "a=b"], "--pushgateway"),
        (["--pushgateway-user", "shop"], "--pushgateway"),
        (["--job", "nightly"], "--pushgateway"),
    ],
)
def test_wrong_combination(
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Exit code 2 and what to write instead; nothing runs, and nothing is paused."""
    assert message in refused(*arguments)
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        assert services.state().store.status().pause is None


def test_textfile(run: Run, tmp_path: Path) -> None:
    """The file holds this run, and the exit code is that of the run."""
    path = tmp_path / "smoketest.prom"
    code, stdout, _ = run("--textfile", str(path), smoke=FAILS)
    assert code == 1
    assert stdout.startswith("FAIL\n")
    exposition = Exposition(path.read_text())
    assert exposition.value("smoketest_last_run_success") == 0
    assert exposition.value("smoketest_test_success", test="app0.smoke.T.test_it") == 0
    assert exposition.value("smoketest_results_store_up") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smoketest.txt", "does not end in .prom; node_exporter only reads files"),
        ("missing/smoketest.prom", "cannot be written: No such file or directory. Choose a dir"),
    ],
)
def test_textfile__cannot_be_written(run: Run, tmp_path: Path, name: str, message: str) -> None:
    """Exit code 2 and what to do; the report is printed all the same."""
    code, stdout, stderr = run("--textfile", str(tmp_path / name))
    assert code == 2
    assert stdout.startswith("PASS\n")
    assert message in stderr


@pytest.fixture(scope="module")
def gateway() -> Iterator[Pushgateway]:
    """A real Pushgateway."""
    with Pushgateway() as gateway:
        yield gateway


def test_pushgateway(run: Run, gateway: Pushgateway) -> None:
    """Without other options the job is smoketest, and the instance this host."""
    code, _, _ = run("--pushgateway", gateway.url)
    assert code == 0
    seen = gateway.metrics()
    labels = {"job": "smoketest", "instance": socket.gethostname()}
    assert seen.value("smoketest_last_run_success", **labels) == 1
    assert seen.value("smoketest_test_success", test="app0.smoke.T.test_it", **labels) == 1


def test_pushgateway__job_and_grouping(run: Run, gateway: Pushgateway) -> None:
    """--job and every --grouping become labels, and the default instance goes."""
    run(
        "--pushgateway", gateway.url, "--job", "nightly",
        "--grouping", "region=eu=west", "--grouping", "host=a b/c",
    )  # fmt: skip
    ((_, labels),) = gateway.metrics().matching("smoketest_last_run_success", job="nightly")
    # A Pushgateway shows an instance that is not in the grouping key as an empty one.
    assert {(key, value) for key, value in labels if value} == {
        ("job", "nightly"),
        ("region", "eu=west"),
        ("host", "a b/c"),
    }


def test_pushgateway__user(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is an option, the password a variable of the environment."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers["Authorization"])
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server
            """Nothing."""

    monkeypatch.setenv(PASSWORD_VARIABLE, "hunter2")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            code, stdout, stderr = run("--pushgateway", address, "--pushgateway-user", "shop")
        finally:
            server.shutdown()
            thread.join()
    assert code == 0
    assert seen == ["Basic c2hvcDpodW50ZXIy"]
    assert "hunter2" not in stdout + stderr


def test_pushgateway__is_down(run: Run) -> None:
    """Exit code 2 and which address to look at; the report is printed all the same."""
    address = f"http://127.0.0.1:{free_port()}"
    code, stdout, stderr = run("--pushgateway", address)
    assert code == 2
    assert stdout.startswith("PASS\n")
    assert f"The Pushgateway at {address} cannot be reached" in stderr


def test_both_exports(run: Run, gateway: Pushgateway, tmp_path: Path) -> None:
    """A run can hand on its results in more than one way."""
    path = tmp_path / "smoketest.prom"
    run("--textfile", str(path), "--pushgateway", gateway.url, "--job", "both")
    finished = Exposition(path.read_text()).value("smoketest_last_run_timestamp_seconds")
    assert gateway.metrics().value("smoketest_last_run_timestamp_seconds", job="both") == finished


def test_every_of_a_test__is_no_matter_for_a_single_run(
    run: Run, tmp_path: Path, ran: Callable[[], int]
) -> None:
    """Who runs the command wants to know now."""
    for _ in range(2):
        run(smoke=counting(tmp_path, options="every = 3600"))
    assert ran() == 2


def test_pause(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    """A pause says until when; meanwhile one sees the latest results, and that nothing was run."""
    assert run(smoke=counting(tmp_path))[0] == 0
    before = time.time()
    code, stdout, _ = run("--pause", "30m", "--reason", "moving the database")
    assert code == 0
    assert re.fullmatch(r"Runs are paused on this host until [\d-]+ [\d:]+ UTC\.\n", stdout)
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        pause = services.state().store.status().pause
    assert pause
    assert pause.reason == "moving the database"
    assert before + 1800 <= pause.until <= time.time() + 1800
    code, stdout, stderr = run()
    assert code == 1, "a release script must not take it for a yes"
    assert "Nothing was run" in stderr
    assert stdout.startswith("PASS\n")
    assert re.search(r"^paused until .*: moving the database$", stdout, re.MULTILINE)
    assert ran() == 1


def test_pause__of_a_failing_site(run: Run) -> None:
    """The latest results are shown as they were."""
    run(smoke=FAILS)
    run("--pause", "30m", "--reason", "x")
    code, stdout, _ = run()
    assert code == 1
    assert stdout.startswith("FAIL\n")


def test_pause__of_a_run_without_time(run: Run) -> None:
    """It is the pause that ends the command, not the time that was over when it ran."""
    hanging.reset()
    late = PASSES.replace("pass", "hanging.hang()")
    code, _, _ = run("--run-timeout", "0.1s", smoke=f"from tests import hanging\n{late}")
    hanging.released.set()
    assert code == 4
    run("--pause", "30m", "--reason", "x")
    code, _, stderr = run()
    assert code == 1
    assert "Nothing was run" in stderr


def test_pause__without_results(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    """Nothing runs, and the message says how to end the pause."""
    run("--pause", "30m", "--reason", "moving", smoke=counting(tmp_path))
    code, stdout, stderr = run()
    assert (code, stdout) == (1, "")
    assert "(moving), and no result is stored. End the pause with --resume." in stderr
    assert ran() == 0


def test_pause__is_exported(run: Run, tmp_path: Path) -> None:
    """The metrics say that the runs are paused."""
    path = tmp_path / "smoketest.prom"
    run()
    run("--pause", "30m", "--reason", "x")
    run("--textfile", str(path))
    assert Exposition(path.read_text()).value("smoketest_paused") == 1


def test_pause__replaces_another(run: Run, tmp_path: Path) -> None:
    """The pause that was set last holds."""
    run("--pause", "30m", "--reason", "first")
    run("--pause", "5m", "--reason", "second")
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        pause = services.state().store.status().pause
    assert pause
    assert pause.reason == "second"
    assert pause.until < time.time() + 301


def test_pause__ends_by_itself(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    """After its time the tests run again."""
    run("--pause", "0.3s", "--reason", "x", smoke=counting(tmp_path))
    time.sleep(0.35)
    assert run()[0] == 0
    assert ran() == 1


def test_resume(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    """The tests run again at once; where nothing is paused, that is no error."""
    for _ in range(2):
        run("--pause", "30m", "--reason", "x", smoke=counting(tmp_path))
        code, stdout, _ = run("--resume")
        assert (code, stdout) == (0, "Runs are no longer paused on this host.\n")
    assert run("--resume")[0] == 0
    assert run()[0] == 0
    assert ran() == 1


@pytest.mark.parametrize("arguments", [["--pause", "30m", "--reason", "x"], ["--resume"]])
def test_pause__without_a_shared_store(run: Run, arguments: list[str]) -> None:
    """A pause that no other process would see is refused: exit code 2 and what to set."""
    code, stdout, stderr = run(*arguments, SMOKETEST_STATE_DIR="/dev/null/nowhere")
    assert (code, stdout) == (2, "")
    assert "Set SMOKETEST_STATE_DIR." in stderr


def test_lock_cannot_be_used(run: Run, tmp_path: Path) -> None:
    """A state folder that cannot be used is told of in one line, with what to do."""
    run()
    lock = tmp_path / "state" / "run.lock"
    lock.unlink()
    lock.mkdir()
    code, _, stderr = run()
    assert code != 0
    assert "Set SMOKETEST_STATE_DIR" in stderr
    assert "Traceback" not in stderr


# Processes of their own

ROUND = r"\d+:\d+:\d+ UTC PASS, 1 tests? in \d"
#: After how many rounds a loop with a `Clock` is interrupted.
ROUNDS = 3


class Clock:
    """The `time` module of a loop. Each round takes half a second, and a sleep no time at all."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        #: What to call after a round, by its number.
        self.after: dict[int, Callable[[], object]] = {}
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 0.5
        return self._now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        number = len(self.sleeps)
        self.after.get(number, lambda: None)()
        if number == ROUNDS:
            raise KeyboardInterrupt


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("smoketest.management.commands.smoketest.time", clock)
    return clock


def test_loop__sigterm_between_rounds(site: Site) -> None:
    """Runs again and again; SIGTERM ends it with 0, at once and without a word."""
    process = site.start("--every", "0.2s")
    process.wait_for(ROUND, count=3)
    sleeping = site.start("--every", "1h")
    sleeping.wait_for(ROUND)
    assert process.end(signal.SIGTERM) == 0
    assert sleeping.end(signal.SIGTERM) == 0
    assert sleeping.stderr == ""


@pytest.mark.parametrize(("every", "pause"), [("2s", 1.5), ("0.5s", 0), ("0.1s", 0)])
def test_loop__keeps_its_beat(run: Run, clock: Clock, every: str, pause: float) -> None:
    """--every is from beginning to beginning, however long a round takes."""
    code, stdout, _ = run("--every", every)
    assert (code, len(re.findall(ROUND, stdout))) == (130, ROUNDS)
    assert clock.sleeps == [pause] * ROUNDS


def test_loop__prints_at_once(site: Site) -> None:
    """Each round is in the log as soon as it is over, also where the log is a pipe or file."""
    process = site.start("--every", "1h", PYTHONUNBUFFERED="")
    process.wait_for(ROUND)


@pytest.mark.parametrize("workers", [4, 0])
def test_loop__sigterm_in_mid_run(site: Site, workers: int) -> None:
    """SIGTERM does not wait for the tests; the lock is free and nothing of the run is kept."""
    site.smoke(HANGS, SMOKETEST_WORKERS=workers)
    process = site.start("--every", "0.1s")
    process.wait_for("hanging")
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.stderr
    site.smoke(PASSES)
    code, stdout, _ = site.run()
    assert code == 0
    assert stdout.startswith("PASS\n")


@pytest.mark.parametrize("workers", [4, 0])
@pytest.mark.parametrize("arguments", [(), ("--every", "1h")])
def test_sigint__in_mid_run(site: Site, workers: int, arguments: tuple[str, ...]) -> None:
    """Ctrl-C ends it with 130, at once, with what is known and without a traceback."""
    site.smoke(HANGS, SMOKETEST_WORKERS=workers)
    process = site.start(*arguments)
    process.wait_for("hanging")
    assert process.end(signal.SIGINT) == 130
    assert "Traceback" not in process.stderr
    assert ("tests not run: 1" in process.stdout) == (not arguments)


def test_sigint__between_rounds(site: Site) -> None:
    """Ctrl-C while it sleeps: 130 as well."""
    process = site.start("--every", "1h")
    process.wait_for(ROUND)
    assert process.end(signal.SIGINT) == 130
    assert process.stderr == ""


def test_loop__failing_tests_go_on(site: Site) -> None:
    """A FAIL is a round like any other."""
    site.smoke(FAILS)
    process = site.start("--every", "0.2s")
    process.wait_for("UTC FAIL, 1 tests? in", count=3)
    assert process.end(signal.SIGTERM) == 0


def test_loop__gateway_goes_down_and_comes_up(site: Site) -> None:
    """A push that fails is told of, the rounds go on, and the next push arrives."""
    with Pushgateway() as gateway:
        gateway.stop()
        process = site.start("--every", "0.2s", "--pushgateway", gateway.url, "--job", "loop")
        process.wait_for(f"The Pushgateway at {gateway.url} cannot be reached", count=2)
        gateway.start()
        wait_for(
            lambda: gateway.metrics().matching("smoketest_last_run_success", job="loop"),
            what="a push",
        )
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.stderr


def test_loop__something_else_answers_the_push(site: Site) -> None:
    """Nor does an answer that is no HTTP end the loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(100_000)
                        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = Thread(target=answer)
        thread.start()
        try:
            process = site.start("--every", "0.2s", "--pushgateway", f"127.0.0.1:{port}")
            process.wait_for("The Pushgateway at", count=2)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert process.end(signal.SIGTERM) == 0


def test_loop__text_file_cannot_be_written_for_a_while(site: Site, tmp_path: Path) -> None:
    """A folder that comes late is written to as soon as it is there."""
    path = tmp_path / "late" / "smoketest.prom"
    process = site.start("--every", "0.2s", "--textfile", str(path))
    process.wait_for("cannot be written: No such file or directory", count=2)
    path.parent.mkdir()
    wait_for(path.exists, what="the file")
    assert process.end(signal.SIGTERM) == 0


def test_loop__lock_cannot_be_used_for_a_while(site: Site) -> None:
    """Trouble with the state folder is told of, and the loop goes on when it is over."""
    site.run()
    lock = site.folder / "state" / "run.lock"
    lock.unlink()
    lock.mkdir()
    process = site.start("--every", "0.2s")
    process.wait_for(r"run\.lock", count=2)
    lock.rmdir()
    process.wait_for(ROUND)
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.stderr


def test_loop__another_run_goes_on(
    run: Run, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that cannot begin in time is told of, and the next one begins."""
    monkeypatch.setattr("smoketest.cli.asking.GRACE", 0)
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        release = services.state().run_lock.acquire()
    assert release
    clock.after[1] = release
    _, stdout, stderr = run("--every", "1s", SMOKETEST_RUN_TIMEOUT=0.2)
    assert stderr.count("Another run did not end within 0.2 s") == 1
    assert len(re.findall(ROUND, stdout)) == ROUNDS - 1


def test_loop__receiver_loses_its_connection(site: Site) -> None:
    """It has another in the next round, as in the next request of a site."""
    receiver = """
from django.dispatch import receiver
from smoketest.signals import run_finished

@receiver(run_finished)
def receive(**_):
    connection.cursor().execute("SELECT 1")
    print("received", flush=True)
    connection.connection.close()
"""
    site.smoke(PASSES + receiver)
    process = site.start("--every", "0.1s")
    process.wait_for("received", count=2)
    assert process.end(signal.SIGTERM) == 0


def test_loop__respects_every_of_the_tests(site: Site, tmp_path: Path) -> None:
    """A test that wants to run once an hour does so in the loop, and not in a single run."""
    (tmp_path / "ran").touch()
    site.smoke(counting(tmp_path, options="every = 3600"))
    process = site.start("--every", "0.1s")
    process.wait_for(ROUND, count=4)
    assert process.end(signal.SIGTERM) == 0
    assert (tmp_path / "ran").read_text() == "x"
    site.run()
    assert (tmp_path / "ran").read_text() == "xx"


def test_loop__respects_every_that_passes(
    run: Run,
    tmp_path: Path,
    ran: Callable[[], int],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a test runs again when its time has passed."""
    seen: list[int] = []

    def pass_an_hour() -> None:
        seen.append(ran())
        monkeypatch.setattr("smoketest.coordination.coordinator.time", lambda: time.time() + 3600)

    clock.after = {1: lambda: seen.append(ran()), 2: pass_an_hour}
    run("--every", "60s", smoke=counting(tmp_path, options="every = 3600"))
    assert [*seen, ran()] == [1, 1, 2]


def test_loop__paused(site: Site, tmp_path: Path) -> None:
    """While the runs are paused no test runs, and each round says so instead of PASS alone."""
    (tmp_path / "ran").touch()
    site.smoke(counting(tmp_path))
    site.run()
    site.run("--pause", "1h", "--reason", "moving the database")
    process = site.start("--every", "0.2s")
    process.wait_for("paused until .*moving the database", count=2)
    assert (tmp_path / "ran").read_text() == "x"
    assert site.run("--resume")[0] == 0
    wait_for((tmp_path / "ran").read_text, lambda x: len(x) > 2, what="runs")
    assert process.end(signal.SIGTERM) == 0


# --serve


def test_serve(site: Site) -> None:
    """A scrape shows the latest round, in the format that it asks for."""
    port = free_port()
    process = site.start("--every", "0.3s", "--serve", f"127.0.0.1:{port}")
    process.wait_for(rf"Serving /metrics on 127\.0\.0\.1:{port}")
    process.wait_for(ROUND)
    first = Exposition(get(port, "/metrics").text)
    assert first.value("smoketest_last_run_success") == 1
    assert first.value("smoketest_run_interval_seconds") == 60
    process.wait_for(ROUND, count=3)
    second = Exposition(get(port, "/metrics").text)
    name = "smoketest_last_run_timestamp_seconds"
    assert second.value(name) > first.value(name)
    response = get(port, "/metrics", {"Accept": "application/openmetrics-text;version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
    assert process.end(signal.SIGTERM) == 0
    with pytest.raises(ConnectionRefusedError):
        get(port, "/metrics")


def test_serve__without_a_host(site: Site) -> None:
    """With a port alone it serves on every address, as other exporters do."""
    port = free_port()
    process = site.start("--every", "1h", "--serve", str(port))
    process.wait_for(f"Serving /metrics on .*:{port}")
    connection = http.client.HTTPConnection("127.0.0.2", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
    assert process.end(signal.SIGTERM) == 0


def test_serve__ipv6(site: Site) -> None:
    """An address of IPv6 is written in brackets."""
    port = free_port()
    process = site.start("--every", "1h", "--serve", f"[::1]:{port}")
    process.wait_for("Serving /metrics on")
    connection = http.client.HTTPConnection("::1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
    assert process.end(signal.SIGTERM) == 0


def test_serve__in_mid_run(site: Site) -> None:
    """A scrape never waits for a run; SIGTERM ends both."""
    site.smoke(HANGS)
    port = free_port()
    process = site.start("--every", "1h", "--serve", f"127.0.0.1:{port}")
    process.wait_for("hanging")
    assert get(port, "/metrics", timeout=30).status == 200
    assert process.end(signal.SIGTERM) == 0


def test_serve__port_is_taken(site: Site) -> None:
    """Exit code 2 and the address; nothing runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, stdout, stderr = site.run("--every", "1h", "--serve", f"127.0.0.1:{port}")
    assert (code, stdout) == (2, "")
    assert f"The metrics cannot be served on 127.0.0.1:{port}: " in stderr
    assert "Traceback" not in stderr


def test_serve__tls(site: Site) -> None:
    """--certificate and --key make it HTTPS."""
    certificate, key = site.folder / "certificate.pem", site.folder / "key.pem"
    subprocess.run(
        [
            require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate),
            "-keyout", str(key),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    process = site.start(
        "--every", "1h", "--serve", f"127.0.0.1:{port}",
        "--certificate", str(certificate), "--key", str(key),
    )  # fmt: skip
    process.wait_for(ROUND)
    context = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        assert b"smoketest_last_run_success 1.0" in connection.getresponse().read()
    assert process.end(signal.SIGTERM) == 0


@pytest.mark.e2e
def test_serve__is_scraped_by_prometheus(site: Site) -> None:
    """A real Prometheus takes it, without a complaint."""
    port = free_port()
    process = site.start("--every", "0.5s", "--serve", f"127.0.0.1:{port}")
    process.wait_for(ROUND)
    with Prometheus(f"127.0.0.1:{port}", path="/metrics") as prometheus:
        assert prometheus.wait_for("smoketest_last_run_success")[0].value == 1
        (sample,) = prometheus.query("smoketest_test_success")
        assert sample.labels["test"] == "shop.smoke.T.test_it"
        (target,) = prometheus.targets()
        assert (target["health"], target["lastError"]) == ("up", "")
    assert process.end(signal.SIGTERM) == 0
