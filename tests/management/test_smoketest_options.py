"""Options of ``manage.py smoketest``: exports, pauses, regular runs and --serve."""

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

# Single runs


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
        (["--nonsense"], "unknown argument --nonsense"),
    ],
)
def test_invalid_value(run: Run, arguments: list[str], message: str) -> None:
    """The command exits with 2 and states what is allowed."""
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
        # These options would be ignored.
        (["--pause", "30m", "--reason", "x", "--every", "60s"], "--pause"),
        (["--pause", "30m", "--reason", "x", "--textfile", "x.prom"], "--pause"),
        (["--resume", "--every", "60s"], "--resume"),
        (["--resume", "--pushgateway", "localhost:9091"], "--resume"),
        (["--grouping", "a=b"], "--pushgateway"),
        (["--pushgateway-user", "shop"], "--pushgateway"),
        (["--job", "nightly"], "--pushgateway"),
        (["--delete-on-exit"], "--delete-on-exit requires --pushgateway and --every."),
        (["--pushgateway", "x", "--delete-on-exit"], "--delete-on-exit requires --pushgateway and"),
        (["--every", "60s", "--delete-on-exit"], "--delete-on-exit requires --pushgateway and"),
    ],
)
def test_invalid_combination(
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """The command exits with 2 and shows the correct usage; nothing runs and nothing is paused."""
    assert message in refused(*arguments)
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        assert services.state().store.status().pause is None


def test_textfile(run: Run, tmp_path: Path) -> None:
    """The file contains the results of this run, whose exit code is unchanged."""
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
def test_textfile__not_writable(run: Run, tmp_path: Path, name: str, message: str) -> None:
    """The command exits with 2 after printing the report."""
    code, stdout, stderr = run("--textfile", str(tmp_path / name))
    assert code == 2
    assert stdout.startswith("PASS\n")
    assert message in stderr


def test_textfile__of_several_sites(run: Run, tmp_path: Path) -> None:
    """A second site in the directory needs a name; exit code 2 until it has one."""
    (tmp_path / "blog.prom").write_text('smoketest_build_info{django_version="6.1"} 1.0\n')
    path = tmp_path / "shop.prom"
    code, _, stderr = run("--textfile", str(path))
    assert code == 2
    assert f"{tmp_path / 'blog.prom'} also contains metrics of smoke tests" in stderr
    code, _, _ = run("--textfile", str(path), SMOKETEST_PROJECT="shop")
    assert code == 0
    samples = Exposition(path.read_text()).samples
    assert samples
    assert all(("django_project", "shop") in labels for _, labels in samples)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Pushgateway]:
    with Pushgateway() as gateway:
        yield gateway


def test_pushgateway(run: Run, gateway: Pushgateway) -> None:
    """The default job is smoketest, and the default instance is the host name."""
    code, _, _ = run("--pushgateway", gateway.url)
    assert code == 0
    counts = gateway.metrics()
    labels = {"job": "smoketest", "instance": socket.gethostname()}
    assert counts.value("smoketest_last_run_success", **labels) == 1
    assert counts.value("smoketest_test_success", test="app0.smoke.T.test_it", **labels) == 1


def test_pushgateway__of_several_sites(run: Run, gateway: Pushgateway) -> None:
    """The pushes of two sites on a host do not replace each other."""
    for project in ("blog", "shop"):
        run("--pushgateway", gateway.url, "--job", "sites", SMOKETEST_PROJECT=project)
    found = gateway.metrics().matching("smoketest_last_run_success", job="sites")
    assert {dict(labels)["django_project"] for _, labels in found} == {"blog", "shop"}
    run(
        "--pushgateway", gateway.url, "--job", "sites", "--grouping", "region=eu",
        SMOKETEST_PROJECT="shop",
    )  # fmt: skip
    (series,) = gateway.metrics().matching("push_time_seconds", job="sites", region="eu")
    assert dict(series[1])["django_project"] == "shop"


def test_pushgateway__job_and_grouping(run: Run, gateway: Pushgateway) -> None:
    """--job and --grouping set the labels and replace the default instance."""
    run(
        "--pushgateway", gateway.url, "--job", "nightly",
        "--grouping", "region=eu=west", "--grouping", "host=a b/c",
    )  # fmt: skip
    ((_, labels),) = gateway.metrics().matching("smoketest_last_run_success", job="nightly")
    # Pushgateway shows an empty instance label if the grouping key has no instance.
    assert {(key, value) for key, value in labels if value} == {
        ("job", "nightly"),
        ("region", "eu=west"),
        ("host", "a b/c"),
    }


def test_pushgateway__user(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user name is an option; the password is an environment variable."""
    counts = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            counts.append(self.headers["Authorization"])
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server
            """Silence the request log."""

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
    assert counts == ["Basic c2hvcDpodW50ZXIy"]
    assert "hunter2" not in stdout + stderr


def test_pushgateway__down(run: Run) -> None:
    """The command exits with 2 and names the address after printing the report."""
    address = f"http://127.0.0.1:{free_port()}"
    code, stdout, stderr = run("--pushgateway", address)
    assert code == 2
    assert stdout.startswith("PASS\n")
    assert f"The Pushgateway at {address} cannot be reached" in stderr


def test_textfile_and_pushgateway(run: Run, gateway: Pushgateway, tmp_path: Path) -> None:
    path = tmp_path / "smoketest.prom"
    run("--textfile", str(path), "--pushgateway", gateway.url, "--job", "both")
    finished = Exposition(path.read_text()).value("smoketest_last_run_timestamp_seconds")
    assert gateway.metrics().value("smoketest_last_run_timestamp_seconds", job="both") == finished


def test_single_run__ignores_every(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    """A test with a long `every` interval runs each time the command is called."""
    for _ in range(2):
        run(smoke=counting(tmp_path, options="every = 3600"))
    assert ran() == 2


def test_pause(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    """During a pause, the command prints stored results and the pause, and exits with 1."""
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
    assert code == 1, "a paused site must not pass a release"
    assert "Nothing was run" in stderr
    assert stdout.startswith("PASS\n")
    assert re.search(r"^paused until .*: moving the database$", stdout, re.MULTILINE)
    assert ran() == 1


def test_pause__failing_site(run: Run) -> None:
    """Stored failures are shown unchanged."""
    run(smoke=FAILS)
    run("--pause", "30m", "--reason", "x")
    code, stdout, _ = run()
    assert code == 1
    assert stdout.startswith("FAIL\n")


def test_pause__after_run_timeout(run: Run) -> None:
    """The exit code is that of the pause, not that of the stored run, which timed out."""
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
    """Without stored results, the message explains how to end the pause."""
    run("--pause", "30m", "--reason", "moving", smoke=counting(tmp_path))
    code, stdout, stderr = run()
    assert (code, stdout) == (1, "")
    assert "(moving), and no result is stored. End the pause with --resume." in stderr
    assert ran() == 0


def test_pause__metrics(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "smoketest.prom"
    run()
    run("--pause", "30m", "--reason", "x")
    run("--textfile", str(path))
    assert Exposition(path.read_text()).value("smoketest_paused") == 1


def test_pause__replaces_another(run: Run, tmp_path: Path) -> None:
    """A second pause replaces the first."""
    run("--pause", "30m", "--reason", "first")
    run("--pause", "5m", "--reason", "second")
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        pause = services.state().store.status().pause
    assert pause
    assert pause.reason == "second"
    assert pause.until < time.time() + 301


def test_pause__expires(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    run("--pause", "0.3s", "--reason", "x", smoke=counting(tmp_path))
    time.sleep(0.35)
    assert run()[0] == 0
    assert ran() == 1


def test_resume(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    """Tests run again at once; --resume without a pause succeeds."""
    for _ in range(2):
        run("--pause", "30m", "--reason", "x", smoke=counting(tmp_path))
        code, stdout, _ = run("--resume")
        assert (code, stdout) == (0, "Runs are no longer paused on this host.\n")
    assert run("--resume")[0] == 0
    assert run()[0] == 0
    assert ran() == 1


@pytest.mark.parametrize("arguments", [["--pause", "30m", "--reason", "x"], ["--resume"]])
def test_pause__without_a_shared_store(run: Run, arguments: list[str]) -> None:
    """A pause that other processes could not see is rejected with exit code 2."""
    code, stdout, stderr = run(*arguments, SMOKETEST_STATE_DIR="/dev/null/nowhere")
    assert (code, stdout) == (2, "")
    assert "Set SMOKETEST_STATE_DIR." in stderr


def test_unusable_lock(run: Run, tmp_path: Path) -> None:
    """A state directory that cannot be used is reported with what to do."""
    run()
    lock = tmp_path / "state" / "run.lock"
    lock.unlink()
    lock.mkdir()
    code, _, stderr = run()
    assert code != 0
    assert f"{lock} is not a regular file. Find out who created it, then delete it." in stderr
    assert "Traceback" not in stderr


# Regular runs

ROUND = r"\d+:\d+:\d+ UTC PASS, 1 tests? in \d"
#: Number of rounds after which a loop with a `Clock` is interrupted.
ROUNDS = 3


class Clock:
    """Replacement for the `time` module of the loop. A round takes 0.5 s, a sleep no time."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        #: Functions to call after a round, by its number.
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
    """The command runs until SIGTERM, which ends it at once with exit code 0 and no message."""
    process = site.start("--every", "0.2s")
    process.wait_for(ROUND, count=3)
    sleeping = site.start("--every", "1h")
    sleeping.wait_for(ROUND)
    assert process.end(signal.SIGTERM) == 0
    assert sleeping.end(signal.SIGTERM) == 0
    assert sleeping.stderr == ""


@pytest.mark.parametrize(("every", "pause"), [("2s", 1.5), ("0.5s", 0), ("0.1s", 0)])
def test_loop__interval(run: Run, clock: Clock, every: str, pause: float) -> None:
    """--every is measured from start to start, regardless of how long a round takes."""
    code, stdout, _ = run("--every", every)
    assert (code, len(re.findall(ROUND, stdout))) == (130, ROUNDS)
    assert clock.sleeps == [pause] * ROUNDS


def test_loop__output_is_flushed(site: Site) -> None:
    """Each round is written at once, also to a pipe or file."""
    process = site.start("--every", "1h", PYTHONUNBUFFERED="")
    process.wait_for(ROUND)


@pytest.mark.parametrize("workers", [4, 0])
def test_loop__sigterm_during_run(site: Site, workers: int) -> None:
    """SIGTERM does not wait for the tests, releases the lock and stores nothing of the run."""
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
def test_sigint__during_run(site: Site, workers: int, arguments: tuple[str, ...]) -> None:
    """The command exits with 130 and prints completed results without a traceback."""
    site.smoke(HANGS, SMOKETEST_WORKERS=workers)
    process = site.start(*arguments)
    process.wait_for("hanging")
    assert process.end(signal.SIGINT) == 130
    assert "Traceback" not in process.stderr
    assert ("tests not run: 1" in process.stdout) == (not arguments)


def test_sigint__between_rounds(site: Site) -> None:
    """The command exits with 130 while it sleeps."""
    process = site.start("--every", "1h")
    process.wait_for(ROUND)
    assert process.end(signal.SIGINT) == 130
    assert process.stderr == ""


def test_loop__failing_tests(site: Site) -> None:
    """A failing round does not end the loop."""
    site.smoke(FAILS)
    process = site.start("--every", "0.2s")
    process.wait_for("UTC FAIL, 1 tests? in", count=3)
    assert process.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("address", "shown", "clients"),
    [
        ("{}", r"0\.0\.0\.0:{}", ["127.0.0.1"]),
        ("[::]:{}", r"\[::\]:{}", ["::1", "127.0.0.1"]),
        ("[::1]:{}", r"\[::1\]:{}", ["::1"]),
        ("localhost:{}", r"localhost:{}", ["localhost"]),
    ],
)
def test_loop__serves_on(site: Site, address: str, shown: str, clients: list[str]) -> None:
    """--serve takes a port, a host name, an IPv4 address or an IPv6 address in brackets."""
    port = free_port()
    process = site.start("--every", "1h", "--serve", address.format(port))
    process.wait_for(f"Serving /metrics on {shown.format(port)}\n")
    for client in clients:
        for method in ("GET", "HEAD"):
            connection = http.client.HTTPConnection(client, port, timeout=60)
            with contextlib.closing(connection):
                connection.request(method, "/metrics")
                assert connection.getresponse().status == 200
    assert process.end(signal.SIGTERM) == 0


def test_loop__pushgateway_restarts(site: Site) -> None:
    """A failed push is reported, and a later push succeeds."""
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_loop__deletes_what_it_pushed(site: Site, gateway: Pushgateway, number: int) -> None:
    """With --delete-on-exit, a normal end deletes the group, and only that."""
    site.smoke(PASSES, SMOKETEST_PROJECT="shop")
    arguments = ("--pushgateway", gateway.url, "--job", f"ends-{number}")
    assert site.run(*arguments, "--grouping", "instance=other")[0] == 0
    process = site.start("--every", "1h", *arguments, "--delete-on-exit")

    def pushed() -> set[str]:
        found = gateway.metrics().matching("smoketest_last_run_success", job=f"ends-{number}")
        return {dict(labels)["instance"] for _, labels in found}

    wait_for(pushed, lambda found: found == {"other", socket.gethostname()}, what="a push")
    assert process.end(number) == (0 if number == signal.SIGTERM else 130)
    assert pushed() == {"other"}
    assert not gateway.metrics().matching(
        "push_time_seconds", job=f"ends-{number}", instance=socket.gethostname()
    )


def test_loop__keeps_what_it_pushed(site: Site, gateway: Pushgateway) -> None:
    """Without --delete-on-exit, the last results stay on the Pushgateway."""
    process = site.start("--every", "1h", "--pushgateway", gateway.url, "--job", "kept")
    wait_for(
        lambda: gateway.metrics().matching("smoketest_last_run_success", job="kept"), what="a push"
    )
    assert process.end(signal.SIGTERM) == 0
    assert gateway.metrics().matching("smoketest_last_run_success", job="kept")


def test_loop__gateway_is_down_at_the_end(site: Site) -> None:
    """If the metrics cannot be deleted, the exit code is 2 and the message contains the address."""
    with Pushgateway() as gateway:
        process = site.start("--every", "1h", "--pushgateway", gateway.url, "--delete-on-exit")
        wait_for(lambda: gateway.metrics().matching("smoketest_last_run_success"), what="a push")
        gateway.stop()
        assert process.end(signal.SIGTERM) == 2
    assert f"The Pushgateway at {gateway.url} cannot be reached" in process.stderr
    assert "Traceback" not in process.stderr


def test_loop__pushgateway_is_not_http(site: Site) -> None:
    """A response that is not HTTP does not end the loop."""
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


def test_loop__textfile_directory_missing_at_first(site: Site, tmp_path: Path) -> None:
    """The file is written once its directory exists."""
    path = tmp_path / "late" / "smoketest.prom"
    process = site.start("--every", "0.2s", "--textfile", str(path))
    process.wait_for("cannot be written: No such file or directory", count=2)
    path.parent.mkdir()
    wait_for(path.exists, what="the file")
    assert process.end(signal.SIGTERM) == 0


def test_loop__lock_unusable_at_first(site: Site) -> None:
    """An unusable lock is reported, and the loop continues once it can be used."""
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


def test_loop__another_run_in_progress(
    run: Run, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that cannot start in time is reported, and the next one starts."""
    monkeypatch.setattr("smoketest.cli.asking.GRACE", 0)
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        release = services.state().run_lock.acquire()
    assert release
    clock.after[1] = release
    _, stdout, stderr = run("--every", "1s", SMOKETEST_RUN_TIMEOUT=0.2)
    assert stderr.count("Another run did not end within 0.2 s") == 1
    assert len(re.findall(ROUND, stdout)) == ROUNDS - 1


def test_loop__receiver_closes_connection(site: Site) -> None:
    """A receiver gets a new connection in the next round, as in the next request of a site."""
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


def test_loop__respects_every(site: Site, tmp_path: Path) -> None:
    """In the loop, a test with `every` of one hour runs once; a single run ignores `every`."""
    (tmp_path / "ran").touch()
    site.smoke(counting(tmp_path, options="every = 3600"))
    process = site.start("--every", "0.1s")
    process.wait_for(ROUND, count=4)
    assert process.end(signal.SIGTERM) == 0
    assert (tmp_path / "ran").read_text() == "x"
    site.run()
    assert (tmp_path / "ran").read_text() == "xx"


def test_loop__respects_every_after_interval(
    run: Run,
    tmp_path: Path,
    ran: Callable[[], int],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test runs again after its `every` interval."""
    counts: list[int] = []

    def advance_an_hour() -> None:
        counts.append(ran())
        monkeypatch.setattr("smoketest.coordination.coordinator.time", lambda: time.time() + 3600)

    clock.after = {1: lambda: counts.append(ran()), 2: advance_an_hour}
    run("--every", "60s", smoke=counting(tmp_path, options="every = 3600"))
    assert [*counts, ran()] == [1, 1, 2]


def test_loop__paused(site: Site, tmp_path: Path) -> None:
    """During a pause, no test runs and each round reports the pause."""
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
    """A scrape returns the latest round in the requested format."""
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


def test_serve__port_only(site: Site) -> None:
    """Without a host, the metrics are served on all addresses."""
    port = free_port()
    process = site.start("--every", "1h", "--serve", str(port))
    process.wait_for(f"Serving /metrics on .*:{port}")
    connection = http.client.HTTPConnection("127.0.0.2", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
    assert process.end(signal.SIGTERM) == 0


def test_serve__ipv6(site: Site) -> None:
    """An IPv6 address is written in brackets."""
    port = free_port()
    process = site.start("--every", "1h", "--serve", f"[::1]:{port}")
    process.wait_for("Serving /metrics on")
    connection = http.client.HTTPConnection("::1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
    assert process.end(signal.SIGTERM) == 0


def test_serve__during_run(site: Site) -> None:
    """A scrape does not wait for a run, and SIGTERM ends both."""
    site.smoke(HANGS)
    port = free_port()
    process = site.start("--every", "1h", "--serve", f"127.0.0.1:{port}")
    process.wait_for("hanging")
    assert get(port, "/metrics", timeout=30).status == 200
    assert process.end(signal.SIGTERM) == 0


def test_serve__port_in_use(site: Site) -> None:
    """The command exits with 2 and names the address; no test runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, stdout, stderr = site.run("--every", "1h", "--serve", f"127.0.0.1:{port}")
    assert (code, stdout) == (2, "")
    assert f"The metrics cannot be served on 127.0.0.1:{port}: " in stderr
    assert "Traceback" not in stderr


def test_serve__tls(site: Site) -> None:
    """--certificate and --key enable HTTPS."""
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
def test_serve__prometheus(site: Site) -> None:
    """A Prometheus server scrapes the metrics without an error."""
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
