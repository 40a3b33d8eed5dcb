"""`make demo` in a fresh checkout."""

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
    """Process of `make demo` in a copy of the checkout."""

    name = "demo"
    ready_within = 300.0  # pip may be slow

    @property
    def checkout(self) -> Path:
        """Return the copy of the checkout."""
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
        """Return whether pip can reach a package index."""
        python = str(self.checkout / "example" / ".venv" / "bin" / "python")
        target = str(self.folder / "download")
        command = (python, "-m", "pip", "download", "--no-deps", "--dest", target, "gunicorn")
        return self.run(*command, check=False).returncode == 0

    def is_ready(self) -> bool:
        return get(self.port, "/smoketest/").status == 200

    def ask_to_stop(self) -> None:
        os.killpg(self.pid, signal.SIGINT)  # as a terminal does on Ctrl-C


def files_of_the_checkout() -> Iterator[Path]:
    """Return the files that a commit of the working tree would contain."""
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
    """Start the demo, which installs packages from the network."""
    if not (ROOT / ".git").exists():
        pytest.skip("the demo needs a checkout of the repository")
    require("curl")
    with Demo() as demo:
        yield demo


def printed_commands(demo: Demo) -> list[str]:
    """Return the commands that the demo prints, in order."""
    return re.findall(r"^  ((?:curl|echo|rm) .*|\S+ \S*manage\.py .*)$", demo.log, re.MULTILINE)


def test_printed_urls(demo: Demo) -> None:
    """Every printed URL returns 200."""
    addresses = set(re.findall(r"http://[^\s'\"]+", demo.log))
    assert {f"http://{demo.address}/", f"http://{demo.address}/smoketest/"} <= addresses
    assert f"http://{demo.address}/smoketest/metrics" in addresses
    for address in addresses:
        url = urllib.parse.urlsplit(address)
        assert get(url.port or 80, url.path).status == 200, address


def test_printed_commands(demo: Demo) -> None:
    """Every printed command works when it is copied verbatim."""
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
    """Return the status in a response, in text or JSON."""
    if answer.startswith("{"):
        return str(json.loads(answer)["status"])
    return "PASS" if re.search(r"^PASS$", answer, re.MULTILINE) else "FAIL"


def test_ctrl_c__stops_all_processes(demo: Demo) -> None:
    """Ctrl-C stops all processes of the demo, without a traceback."""
    assert len(demo.family()) > 2
    assert demo.stop() == []
    assert "Traceback" not in demo.log
    with pytest.raises(ConnectionRefusedError):
        get(demo.port, "/")
