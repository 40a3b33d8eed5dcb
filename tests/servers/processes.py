"""Server processes that run in their own folder and process group, and are always stopped."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

from tests.servers.services import find

T = TypeVar("T")

LOG_LINES = 60


class ServerError(AssertionError):
    """Error of a server, with the end of its log."""


def free_port() -> int:
    """Return a loopback port that is currently free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(
    look: Callable[[], T],
    predicate: Callable[[T], object] = bool,
    *,
    within: float = 60.0,
    what: str,
    every: float = 0.05,
) -> T:
    """Call `look` until the predicate is true for its result, and return the result.

    `within`, in seconds, only prevents a hang. Keep the default, so that a slow machine does not
    fail the test.
    """
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if predicate(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s for {what}; last seen: {seen!r}")
        time.sleep(every)


def children(pid: int) -> list[int]:
    """Return the child processes of `pid`."""
    return [child for child, parent in _parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return all descendants of `pid`, closest first."""
    parents = _parents()
    family = [pid]
    for ancestor in family:  # extended during the loop
        family.extend(child for child, parent in parents.items() if parent == ancestor)
    return family[1:]


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    listing = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(listing) and not listing.startswith("Z")


def _parents() -> dict[int, int]:
    """Return the parent of each process, without zombies."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split() for line in listing.splitlines())
    return {int(pid): int(parent) for pid, parent, stat in rows if not stat.startswith("Z")}


class Server(ABC):
    """Base class of servers. `with` starts one in a temporary folder and removes all traces."""

    name: str
    ready_within = 120.0
    #: Seconds after which `stop` kills remaining processes. Far above any graceful shutdown.
    stop_within = 60.0
    stop_signal = signal.SIGTERM
    #: accounts for servers that refuse to run as root
    unprivileged_users: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.port = free_port()
        self.user = self._choose_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    # -- to be overridden --------------------------------------------------------------------

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server responds; an OSError means not yet."""

    def prepare(self) -> None:  # noqa: B027 - most servers need none
        """Prepare the new folder, before the first start."""

    def environment(self) -> dict[str, str]:
        """Return the environment of the processes."""
        return dict(os.environ)

    def working_directory(self) -> Path:
        """Return the working directory of the processes."""
        return self.folder

    # -- lifecycle ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        # Do not use pytest's folder: it is private to the user who runs the tests, and its path is
        # too long for a Unix socket.
        self._folder = Path(tempfile.mkdtemp(prefix=f"smoketest-{self.name}-")).resolve()
        try:
            if self.user is not None:
                shutil.chown(self._folder, self.user)
            self.prepare()
            self.start()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, pytest.skip.Exception):
            error.add_note(f"---- log of {self.name} ----\n{self.log_tail()}")
        self.close()

    def start(self) -> None:
        """Start the processes and wait until they respond."""
        if self._process is not None:
            raise ServerError(f"{self.name} is already running")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*_parent_death_wrapper(), *self.command()],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._popen_options(),
            )
        _running.append(self)
        self._wait_until_ready()

    def stop(self) -> list[int]:
        """Stop the server and return the processes that had to be killed."""
        process = self._process
        if process is None:
            return []
        family = self.family()
        deadline = time.monotonic() + self.stop_within
        if process.poll() is None:
            self.ask_to_stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.stop_within)
        # Child processes may take longer to exit than their parent.
        while (left := [pid for pid in family if is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._kill(family)
        return left

    def ask_to_stop(self) -> None:
        """Send the stop signal to a running server."""
        os.kill(self.pid, self.stop_signal)

    def kill9(self) -> None:
        """Kill all processes of the server with SIGKILL."""
        if self._process is not None:
            self._kill(self.family())

    def family(self) -> list[int]:
        """Return the started process and its descendants."""
        return [self.pid, *descendants(self.pid)]

    def restart(self) -> None:
        """Stop and start again, with the same port and folder."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop and remove the folder."""
        self.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # -- state -------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Return the server's folder, which is removed after the `with` block."""
        if self._folder is None:
            raise ServerError(f"{self.name} has no folder outside of its `with` block")
        return self._folder

    @property
    def pid(self) -> int:
        """Return the id of the started process."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running")
        return self._process.pid

    @property
    def address(self) -> str:
        """Return `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Return the path of the log."""
        return self.folder / f"{self.name}.log"

    @property
    def log(self) -> str:
        """Return the log of all starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        """Return the end of the log, for an error message."""
        lines = self.log.splitlines()
        omitted = [f"... {len(lines) - LOG_LINES} lines omitted"] if len(lines) > LOG_LINES else []
        return "\n".join([*omitted, *lines[-LOG_LINES:]]) or "(nothing)"

    def spawn(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command as the server's user and in its environment."""
        options = self._popen_options()
        options["env"] |= environment
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command like `spawn` and wait for it. An error includes its output."""
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, **self._popen_options()
        )
        if check and done.returncode:
            raise ServerError(
                f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    # -- internals ---------------------------------------------------------------------------

    def _kill(self, family: list[int]) -> None:
        process, self._process = self._process, None
        assert process is not None
        # PostgreSQL's processes leave the group, and others outlive their parent, so kill both
        # ways.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        wait_for(
            lambda: [pid for pid in family if is_alive(pid)],
            lambda left: not left,
            what=f"the end of the processes of {self.name}",
        )
        _running.remove(self)

    def _popen_options(self) -> dict[str, Any]:
        return {
            "cwd": self.working_directory(),
            "env": self.environment(),
            "stdin": subprocess.DEVNULL,
            "user": self.user,
            "group": None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            "extra_groups": None if self.user is None else [],
        }

    def _choose_user(self) -> str | None:
        if not self.unprivileged_users or os.geteuid() != 0:
            return None
        known = {entry.pw_name for entry in pwd.getpwall()}
        return next((user for user in self.unprivileged_users if user in known), None)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.ready_within
        while True:
            if self._process.poll() is not None:
                code = self._process.returncode
                self.kill9()
                raise ServerError(f"{self.name} ended with {code} instead of starting")
            with contextlib.suppress(OSError):
                if self.is_ready():
                    return
            if time.monotonic() > deadline:
                self.kill9()
                raise ServerError(f"{self.name} was not ready after {self.ready_within:g} s")
            time.sleep(0.05)


# Running servers. A failing test prints their logs; they are stopped at exit.
_running: list[Server] = []


def _parent_death_wrapper() -> list[str]:
    """Return a wrapper command that makes the kernel kill the server when the test process dies.

    Available only on Linux, and only if the thread that starts the server outlives it.
    """
    setpriv = find("setpriv") if sys.platform == "linux" else None
    return [] if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--"]


def running_logs() -> Iterator[tuple[str, str]]:
    """Yield a title and the end of the log of each running server."""
    for server in _running:
        yield f"log of {server.name} on port {server.port}", server.log_tail()


@atexit.register
def _stop_all() -> None:
    while _running:
        _running[-1].close()
