#!/usr/bin/env python3
"""Serve the example shop: needs only Python and its venv module, installs all else by itself."""

import sys

# Before anything that an older Python lacks; no syntax here is newer than Python 3.6.
if sys.version_info < (3, 11):  # noqa: UP036 - that is what this tells people
    sys.exit(
        "The example needs Python 3.11 or later; this is {}.{}. Start it with a newer one, "
        "for example: make demo PYTHON=python3.12".format(*sys.version_info[:2])
    )

import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType
from typing import NoReturn

EXAMPLE = Path(__file__).resolve().parent
CHECKOUT = EXAMPLE.parent
VENV = EXAMPLE / ".venv"
PYTHON = VENV / "bin" / "python"
HOST = "127.0.0.1"

WELCOME = """
The shop is open:   {url}/

Open in a browser
  {url}/smoketest/           the smoke tests, for people
  {url}/smoketest/metrics    the same for Prometheus

Try in another terminal
  curl {url}/smoketest/
  curl '{url}/smoketest/?format=json'
  curl '{url}/smoketest/?tag=readiness'
  curl '{url}/smoketest/?test=orders.smoke.placing'
  {manage} smoketest

Break the shop, run the tests again, and mend it
  echo orders > {data}/break
  curl -H 'Cache-Control: no-cache' {url}/smoketest/
  rm {data}/break
  The start page lists all that can be broken.

Show it to Prometheus: in the scrape_configs of prometheus.yml
  - job_name: shop
    metrics_path: /smoketest/metrics
    static_configs:
      - targets: ["{host}:{port}"]

Stop it with Ctrl-C.
"""


def main() -> None:
    # "kill" ends it as cleanly as Ctrl-C does, also where a shell started it in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    data = Path(os.environ.get("EXAMPLE_DATA_DIR") or EXAMPLE / ".data").absolute()
    os.environ["EXAMPLE_DATA_DIR"] = str(data)
    try:
        install()
        say("Preparing the databases ...")
        prepared = subprocess.run(
            [PYTHON, "manage.py", "prepare_shop", "--verbosity=0"], cwd=EXAMPLE, check=False
        )
        if prepared.returncode:
            sys.exit("The databases could not be prepared; the reason stands above.")
        serve(data)
    except KeyboardInterrupt:
        say("\nStopped.")


def install() -> None:
    """Make the virtual environment, unless it is there and nothing that it holds has changed."""
    stamp = VENV / "installed"
    requirements = [sys.version, str(CHECKOUT), (CHECKOUT / "pyproject.toml").read_text()]
    wanted = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        sys.exit(
            "This Python cannot make virtual environments: its module venv is not complete. "
            f"On Debian and Ubuntu: sudo apt install {package}"
        )
    say(f"Installing into {VENV}; this takes a moment, the first time only ...")
    if VENV.exists():
        shutil.rmtree(VENV)
    if subprocess.run([sys.executable, "-m", "venv", VENV], check=False).returncode:
        sys.exit(f"The virtual environment {VENV} could not be made; the reason stands above.")
    # Editable, so that a change of the package shows when the demo is started again.
    pip: list[str | Path] = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    packages: list[str | Path] = ["install", "--editable", CHECKOUT, "gunicorn>=25.1"]
    if subprocess.run([*pip, *packages], check=False).returncode:
        sys.exit(
            "The packages could not be installed; pip's reason stands above. Is this machine "
            "online? Behind a proxy set HTTPS_PROXY; with a package index of your own, "
            "PIP_INDEX_URL."
        )
    stamp.write_text(wanted)


def serve(data: Path) -> None:
    """Run gunicorn in the foreground until it ends or someone presses Ctrl-C."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    command: list[str | Path] = [
        *(PYTHON, "-m", "gunicorn", "shop.wsgi"),
        *("--bind", f"{HOST}:{port}", "--workers", "2", "--threads", "4"),
        *("--graceful-timeout", "5", "--log-level", "warning"),
        "--no-control-socket",  # it would be shared by all sites of this user
    ]
    # A session of its own: Ctrl-C reaches this process alone, which then stops gunicorn in order.
    server = subprocess.Popen(command, cwd=EXAMPLE, start_new_session=True)
    try:
        wait_until_up(url, server)
        manage = f"{shown(PYTHON)} {shown(EXAMPLE / 'manage.py')}"
        if data != EXAMPLE / ".data":
            manage = f"EXAMPLE_DATA_DIR={data} {manage}"
        say(WELCOME.format(url=url, host=HOST, port=port, data=shown(data), manage=manage))
        sys.exit(f"gunicorn ended by itself, with code {server.wait()}.")
    finally:
        stop(server)


def free_port() -> int:
    """Return EXAMPLE_PORT, else 8000, else any port that is free."""
    wanted = os.environ.get("EXAMPLE_PORT") or "8000"
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        sys.exit(f"EXAMPLE_PORT = {wanted!r}: must be a number from 1 to 65535.")
    for port in (int(wanted), 0):
        with socket.socket() as probe:
            # As gunicorn does: a port that was in use a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except PermissionError:
                sys.exit(f"EXAMPLE_PORT = {wanted}: only root may use it; take one from 1024 on.")
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            if not port:
                say(f"Port {wanted} is taken; the shop opens on {found}.")
            return found
    sys.exit(f"No port is free on {HOST}.")


def wait_until_up(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait for the first answer."""
    # A proxy in the environment is not for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit("gunicorn did not start; the reason stands above.")
        try:
            opener.open(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            sys.exit(f"{url}/ answers {error.code}; the reason stands above.")
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"{url}/ does not answer.")


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Let gunicorn finish what it is doing, but not for ever."""
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(timeout=10)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        # Impatient, or something hangs: the workers, too, have to go.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def shown(path: Path) -> str:
    """Return the path as short as it works from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def say(message: str) -> None:
    # Flushed: under make or in a log file it would come long after what it announces.
    print(message, flush=True)


if __name__ == "__main__":
    main()
