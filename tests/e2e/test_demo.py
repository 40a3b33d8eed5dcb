"""The first thing that a visitor of the repository does: `make demo` in a fresh checkout."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.client import get
from tests.servers.processes import Server, ServerError
from tests.servers.services import missing, require
from tests.servers.site import ROOT, clean_environment

pytestmark = pytest.mark.e2e


class Demo(Server):
    """`make demo` in a copy of the checkout."""

    name = "demo"
    ready_within = 300.0  # pip, on a slow day

    @property
    def checkout(self) -> Path:
        """The copy."""
        return self.folder / "checkout"

    def prepare(self) -> None:
        for path in files_of_the_checkout():
            copy = self.checkout / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, copy)

    def command(self) -> list[str]:
        return [require("make"), "demo", f"PYTHON={sys.executable}"]

    def working_directory(self) -> Path:
        return self.checkout

    def environment(self) -> dict[str, str]:
        return clean_environment() | {"EXAMPLE_PORT": str(self.port)}

    def start(self) -> None:
        try:
            super().start()
        except ServerError:
            if "could not be installed" in self.log and not self.pip_reaches_an_index():
                missing("pip reaches no package index")
            raise

    def pip_reaches_an_index(self) -> bool:
        """Whether pip can get any package at all."""
        python = str(self.checkout / "example" / ".venv" / "bin" / "python")
        target = str(self.folder / "download")
        command = (python, "-m", "pip", "download", "--no-deps", "--dest", target, "gunicorn")
        return self.run(*command, check=False).returncode == 0

    def is_ready(self) -> bool:
        return get(self.port, "/smoketest/").status == 200

    def ask_to_stop(self) -> None:
        os.killpg(self.pid, signal.SIGINT)  # what a terminal does on Ctrl-C


def files_of_the_checkout() -> Iterator[Path]:
    """What a commit of the present state would hold."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            yield Path(name)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A demo that runs; the packages come over the network."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of the repository, and no one runs the demo without one")
    require("curl")
    with Demo() as demo:
        yield demo


def printed_commands(demo: Demo) -> list[str]:
    """The commands that the demo proposes, in its order."""
    return re.findall(r"^  ((?:curl|echo|rm) .*|\S+ \S*manage\.py .*)$", demo.log, re.MULTILINE)


def test_printed_addresses__work(demo: Demo) -> None:
    """Every address that the demo prints answers 200."""
    addresses = set(re.findall(r"http://[^\s'\"]+", demo.log))
    assert {f"http://{demo.address}/", f"http://{demo.address}/smoketest/"} <= addresses
    assert f"http://{demo.address}/smoketest/metrics" in addresses
    for address in addresses:
        url = urllib.parse.urlsplit(address)
        assert get(url.port or 80, url.path).status == 200, address


def test_printed_commands__work(demo: Demo) -> None:
    """Every command that the demo prints does what it is there for, copied as it is."""
    commands = printed_commands(demo)
    assert len([command for command in commands if command.startswith("curl ")]) >= 3
    assert any("manage.py smoketest" in command for command in commands)
    expected = "PASS"
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command.replace("curl ", "curl --silent --show-error ")],
            cwd=demo.checkout,
            env=clean_environment() | {"no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
        what = f"{command}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, what
        match shlex.split(command)[0]:
            case "echo":
                expected = "FAIL"
            case "rm":
                expected = "PASS"
            case _:
                assert status(done.stdout) == expected, what


def status(answer: str) -> str:
    """The verdict of an answer, in text or JSON."""
    if answer.startswith("{"):
        return str(json.loads(answer)["status"])
    return "PASS" if re.search(r"^PASS$", answer, re.MULTILINE) else "FAIL"


def test_ctrl_c__ends_all_of_it(demo: Demo) -> None:
    """Ctrl-C ends the demo at once, without a traceback, and no process of it remains."""
    assert len(demo.family()) > 2
    assert demo.stop() == []
    assert "Traceback" not in demo.log
    with pytest.raises(ConnectionRefusedError):
        get(demo.port, "/")
