#!/usr/bin/env python3
"""Serve the example shop. Installs its requirements; needs only Python with the venv module."""

import sys

# Before other imports; the syntax of this file is valid since Python 3.6.
if sys.version_info < (3, 11):  # noqa: UP036 - reports the version requirement
    sys.exit(
        "The example requires Python 3.11 or later; this is {}.{}. Use a newer one, for "
        "example: make demo PYTHON=python3.12".format(*sys.version_info[:2])
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
The shop is running at {url}/

Open in a browser
  {url}/smoketest/           results of the smoke tests
  {url}/smoketest/metrics    metrics for Prometheus

Run in another terminal
  curl {url}/smoketest/
  curl '{url}/smoketest/?format=json'
  curl '{url}/smoketest/?tag=readiness'
  curl '{url}/smoketest/?test=orders.smoke.placing'
  {manage} smoketest

Break the shop, run the tests again, and fix it
  echo orders > {data}/break
  curl -H 'Cache-Control: no-cache' {url}/smoketest/
  rm {data}/break
  The start page lists everything that can be broken.

Scrape it with Prometheus: add to scrape_configs in prometheus.yml
  - job_name: shop
    metrics_path: /smoketest/metrics
    static_configs:
      - targets: ["{host}:{port}"]

Stop it with Ctrl-C.
"""


def main() -> None:
    # A shell ignores SIGINT for background jobs, so install both handlers explicitly.
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
            sys.exit("The databases could not be prepared; see the error above.")
        serve(data)
    except KeyboardInterrupt:
        say("\nStopped.")


def install() -> None:
    """Create the virtual environment, unless an up-to-date one exists."""
    stamp = VENV / "installed"
    requirements = [sys.version, str(CHECKOUT), (CHECKOUT / "pyproject.toml").read_text()]
    wanted = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        sys.exit(
            "This Python cannot create virtual environments: its venv module is incomplete. "
            f"On Debian and Ubuntu, run: sudo apt install {package}"
        )
    say(f"Installing into {VENV} (only on the first start) ...")
    if VENV.exists():
        shutil.rmtree(VENV)
    if subprocess.run([sys.executable, "-m", "venv", VENV], check=False).returncode:
        sys.exit(f"The virtual environment {VENV} could not be created; see the error above.")
    # Editable, so that a restart of the demo uses changes to the package.
    pip: list[str | Path] = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    packages = ["install", "--editable", f"{CHECKOUT}[http]", "gunicorn>=25.1"]
    if subprocess.run([*pip, *packages], check=False).returncode:
        sys.exit(
            "The packages could not be installed; see pip's error above. Check the network "
            "connection. Set HTTPS_PROXY if you need a proxy, and PIP_INDEX_URL to use your own "
            "package index."
        )
    stamp.write_text(wanted)


def serve(data: Path) -> None:
    """Run gunicorn in the foreground until it exits or Ctrl-C is pressed."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    command: list[str | Path] = [
        *(PYTHON, "-m", "gunicorn", "shop.wsgi"),
        *("--bind", f"{HOST}:{port}", "--workers", "2", "--threads", "4"),
        *("--graceful-timeout", "5", "--log-level", "warning"),
        "--no-control-socket",  # all sites of the user would share it
    ]
    # In a new session, Ctrl-C reaches only this process, which then stops gunicorn gracefully.
    server = subprocess.Popen(command, cwd=EXAMPLE, start_new_session=True)
    try:
        wait_until_up(url, server)
        manage = f"{shown(PYTHON)} {shown(EXAMPLE / 'manage.py')}"
        if data != EXAMPLE / ".data":
            manage = f"EXAMPLE_DATA_DIR={data} {manage}"
        say(WELCOME.format(url=url, host=HOST, port=port, data=shown(data), manage=manage))
        sys.exit(f"gunicorn exited unexpectedly, with code {server.wait()}.")
    finally:
        stop(server)


def free_port() -> int:
    """Return EXAMPLE_PORT or 8000 if it is free, and otherwise any free port."""
    wanted = os.environ.get("EXAMPLE_PORT") or "8000"
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        sys.exit(f"EXAMPLE_PORT is {wanted!r}; it must be a number from 1 to 65535.")
    for port in (int(wanted), 0):
        with socket.socket() as probe:
            # Like gunicorn, accept a port in the state TIME_WAIT.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except PermissionError:
                sys.exit(
                    f"EXAMPLE_PORT is {wanted}, which only root may use; set it to 1024 or higher."
                )
            except OSError:
                continue
            bound: int = probe.getsockname()[1]
            if not port:
                say(f"Port {wanted} is in use; using {bound} instead.")
            return bound
    sys.exit(f"There is no free port on {HOST}.")


def wait_until_up(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server responds."""
    # Ignore proxies in the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit("gunicorn did not start; see the error above.")
        try:
            opener.open(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            sys.exit(f"{url}/ responds with status {error.code}; see the error above.")
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"{url}/ did not respond within 30 s.")


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Stop gunicorn gracefully; kill it after 10 s or another Ctrl-C."""
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(timeout=10)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        # Kill the workers as well.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def shown(path: Path) -> str:
    """Return the path relative to the current directory, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def say(message: str) -> None:
    # Flush, since the output is buffered in a pipe or file.
    print(message, flush=True)


if __name__ == "__main__":
    main()
