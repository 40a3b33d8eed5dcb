"""Sentry and OpenTelemetry in a site with smoke tests, configured as in `docs/tracing.md`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Apps
from tests.docs.markdown import DOCS, blocks
from tests.servers.site import require_module

#: The code blocks of the page.
SENTRY_DROP, SENTRY_MARK, OTEL_DROP, OTEL_MARK = (
    block.content for block in blocks((DOCS / "tracing.md").read_text(), "python")
)

SMOKE = """
class T(SmokeTest):
    def test_error_page(self):
        self.client.raise_request_exception = False
        assert self.client.get("/fails/").status_code == 500
    async def test_page(self):
        assert (await self.async_get()).status_code == 200
    async def async_get(self):
        from asgiref.sync import sync_to_async
        return await sync_to_async(self.client.get)("/works/")
"""

#: A request for the endpoint runs the tests; then a page of the site fails for a visitor.
SITE = """
import json
import sys
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import include, path
def fails(request):
    raise ValueError("in the page")
def works(request):
    return HttpResponse("fine")
state, workers = sys.argv[1:3]
settings.configure(
    SECRET_KEY="x",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["smoketest", "tests.ledger", *sys.argv[3:]],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={},
    LOGGING_CONFIG=None,
    SMOKETEST_STATE_DIR=state,
    SMOKETEST_WORKERS=int(workers),
)
{setup}
django.setup()
from wsgiref.util import setup_testing_defaults
from django.core.wsgi import get_wsgi_application
urlpatterns = [
    path("smoketest/", include("smoketest.urls")), path("fails/", fails), path("works/", works),
]
application = get_wsgi_application()
def get(path):
    environ = dict(HTTP_HOST="testserver", PATH_INFO=path, HTTP_CACHE_CONTROL="no-cache")
    setup_testing_defaults(environ)
    statuses = []
    response = application(environ, lambda status, headers: statuses.append(status))
    body = b"".join(response)
    response.close()
    assert statuses[0][:3] == ("500" if path == "/fails/" else "200"), (statuses, body)
get("/smoketest/")
get("/fails/")
{finish}
"""

#: A transport that keeps what the SDK would send.
SENTRY = """
import sentry_sdk
from sentry_sdk.transport import Transport
events = []
class Keeping(Transport):
    def capture_envelope(self, envelope):
        events.extend(item.payload.json for item in envelope.items)
init = sentry_sdk.init
sentry_sdk.init = lambda **options: init(
    dsn="http://key@localhost/1", transport=Keeping, auto_session_tracking=False, **options
)
"""

OTEL = """
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
ThreadingInstrumentor().instrument()
"""

OTEL_FINISH = """
print(json.dumps([
    [span.name, span.parent is None, span.attributes.get("smoke_test")]
    for span in exporter.get_finished_spans()
]))
"""


def run_site(apps: Apps, tmp_path: Path, workers: int, setup: str, finish: str) -> Any:
    """Run a site with Sentry or OpenTelemetry, and return what it prints as JSON."""
    name = apps.add(SMOKE)
    script = SITE.replace("{setup}", setup).replace("{finish}", finish)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state"), str(workers), name],
        env={
            **{name: value for name, value in os.environ.items() if "SETTINGS" not in name},
            "PYTHONPATH": os.pathsep.join([str(apps.folder), *sys.path]),
            "PYTHONWARNINGS": "ignore",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("block", "expected"),
    [(SENTRY_DROP, [None]), (SENTRY_MARK, ["true", None])],
    ids=["drop", "mark"],
)
def test_sentry(
    apps: Apps, tmp_path: Path, block: str, expected: list[str | None], workers: int
) -> None:
    """Exceptions of smoke tests can be dropped or marked, and the names of requests stay."""
    require_module("sentry_sdk", "sentry-sdk")
    events = run_site(
        apps, tmp_path, workers, SENTRY + block, "sentry_sdk.flush(); print(json.dumps(events))"
    )
    exceptions = [event for event in events if "exception" in event]
    assert [event.get("tags", {}).get("smoke_test") for event in exceptions] == expected
    transactions = [event for event in events if event.get("type") == "transaction"]
    assert [event["transaction"] for event in transactions] == ["/smoketest/", "/fails/"]
    descriptions = {span.get("description") for event in transactions for span in event["spans"]}
    assert not any("works" in str(description) for description in descriptions)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("block", "marks"),
    [(OTEL_DROP, []), (OTEL_MARK, [["GET fails/", True, True], ["GET works/", True, True]])],
    ids=["drop", "mark"],
)
def test_opentelemetry(
    apps: Apps, tmp_path: Path, block: str, marks: list[list[Any]], workers: int
) -> None:
    """Requests of smoke tests are traces of their own, and can be dropped or marked."""
    require_module("opentelemetry.instrumentation.django", "opentelemetry-instrumentation-django")
    exporter = """
exporter = InMemorySpanExporter()
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
"""
    spans = run_site(apps, tmp_path, workers, OTEL + block + exporter, OTEL_FINISH)
    visits = [["GET fails/", True, None], ["GET smoketest/", True, None]]
    assert sorted(spans, key=str) == sorted(visits + marks, key=str)
