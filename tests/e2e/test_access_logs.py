"""The filters of `docs/servers.md` that keep the endpoints out of access logs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.markdown import DOCS
from tests.servers.processes import wait_for
from tests.servers.site import Command, ExampleSite, gunicorn, uvicorn

pytestmark = pytest.mark.e2e

PAGE = (DOCS / "servers.md").read_text()


def code_of(file: str) -> str:
    """Return the code block of the page for this file."""
    (code,) = re.findall(rf"<!-- file: {re.escape(file)} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    return str(code)


def assert_logs_only_pages(command: Command, line: str, **environment: str) -> None:
    """Assert that a page is in the access log, and that no request of an endpoint is."""
    with ExampleSite(command, **environment) as site:
        site.get("/smoketest/")
        site.metrics()
        assert site.get("/").status == 200
        # A server may write the line after it has sent the response.
        wait_for(lambda: line in site.log, what="the line of the page")
        assert "/smoketest" not in site.log.replace("smoketest: ", "")


def test_gunicorn(tmp_path: Path) -> None:
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(code_of("gunicorn.conf.py"))
    assert_logs_only_pages(gunicorn(f"--config={config}", workers=1), "answered / with 200")


def test_uvicorn(tmp_path: Path) -> None:
    (tmp_path / "shop_asgi.py").write_text(
        code_of("asgi.py") + "from shop.asgi import application\n__all__ = ['application']\n"
    )

    def command(address: str) -> list[str]:
        arguments = uvicorn(f"--app-dir={tmp_path}")(address)
        arguments[arguments.index("shop.asgi:application")] = "shop_asgi:application"
        return arguments

    assert_logs_only_pages(command, '"GET / HTTP/1.1" 200')
