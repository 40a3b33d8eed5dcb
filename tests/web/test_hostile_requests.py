"""Fuzzing: no request causes an unhandled error or exposes a secret."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from smoketest.formats import HTTP_FORMATS
from smoketest.web.query import PARAMETERS
from tests.conftest import Site

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

IN_SETTINGS, IN_ENVIRONMENT = "planted-in-settings-5Fz", "planted-in-environment-8Qx"
TOKEN = "planted-token-0123456789"

SMOKE = """
from django.conf import settings
class Leaky(SmokeTest):
    severity = "warning"
    maintainer = settings.SHOP_PASSWORD
    def test_leak(self):
        raise ValueError(settings.SHOP_PASSWORD, os.environ["SHOP_TOKEN"], "http://u:pw-9@h/")
class Good(SmokeTest):
    @tag("db")
    def test_good(self):
        pass
"""
TRACEBACK = "Traceback (most recent call last)"

#: Expected status codes. A 500 would be an error, since no critical test fails.
STATUSES = {200, 204, 301, 303, 304, 400, 401, 403, 404, 405, 406, 411, 413, 415, 503, 504}

Request = dict[str, Any]

words = st.sampled_from([
    *PARAMETERS, *HTTP_FORMATS, "app0", "app0.smoke.Good.test_good",
    "db", "0", "1", "-1", "1e9", "NaN",
    "passed", "' OR 1=1 --", "<script>", "../../etc/passwd", "%00", "\x00", "\N{SNOWMAN}", "",
])  # fmt: skip
texts = words | st.text(max_size=30)
raw = st.binary(max_size=40).map(lambda value: value.decode("latin-1"))
pairs = st.lists(st.tuples(texts, texts), max_size=4)
queries = (
    pairs.map(lambda found: "&".join(f"{name}={value}" for name, value in found)).map(
        lambda text: text.encode("utf-8", "replace").decode("latin-1")
    )
    | raw
)
paths = (
    st.sampled_from(["/smoketest/", "/smoketest/metrics", "/smoketest/test/"])
    .flatmap(lambda path: st.just(path) | st.just(path) | texts.map(lambda text: path + text))
    .map(lambda text: text.encode("utf-8", "replace").decode("latin-1"))
)
methods = st.sampled_from(
    ["GET"] * 8 + ["HEAD", "POST", "OPTIONS", "PUT", "DELETE", "TRACE"]
) | st.text("ABC-_", min_size=1, max_size=10)
media = st.sampled_from([
    "*/*", "text/html", "application/json", "application/x-ndjson", "text/plain;q=0.1, */*;q=x",
    "application/openmetrics-text;version=1.0.0", ",;,", "a/b/c",
])  # fmt: skip
headers = st.fixed_dictionaries(
    {},
    optional={
        "HTTP_ACCEPT": media | raw,
        "HTTP_ACCEPT_ENCODING": st.sampled_from(["gzip", "gzip;q=0", "*"]) | raw,
        "HTTP_AUTHORIZATION": st.sampled_from(["Bearer x", "Basic eDp5", "Basic =", "Digest"])
        | raw,
        "HTTP_CACHE_CONTROL": st.sampled_from(["max-age=0", "max-age=x", "only-if-cached"]) | raw,
        "HTTP_COOKIE": st.sampled_from(["sessionid=x", "csrftoken=y"]) | raw,
        "HTTP_HOST": st.sampled_from(["testserver", "evil.example", ""]) | raw,
        "HTTP_IF_NONE_MATCH": raw,
        "HTTP_ORIGIN": st.sampled_from(["null", "https://evil.example"]) | raw,
        "HTTP_REFERER": raw,
        "HTTP_SEC_FETCH_DEST": st.sampled_from(["document", "empty"]) | raw,
        "HTTP_X_FORWARDED_PROTO": raw,
        "CONTENT_TYPE": st.sampled_from(["application/json", "multipart/form-data", "a"]) | raw,
        "CONTENT_LENGTH": st.sampled_from(["0", "-1", "5", "x", "999999999"]),
    },
)
requests = st.fixed_dictionaries(
    {
        "REQUEST_METHOD": methods,
        "PATH_INFO": paths,
        "QUERY_STRING": queries,
        "headers": headers,
        "body": st.binary(max_size=200),
    }
)


@pytest.fixture(autouse=True)
def secret_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a secret into the environment, in addition to the one in the settings."""
    monkeypatch.setenv("SHOP_TOKEN", IN_ENVIRONMENT)


def response_of(request: Request) -> tuple[int, str]:
    """Return the status code and the full response as text, including headers."""
    started: list[Any] = []
    environ = {
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request["body"]),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{name: value for name, value in request.items() if name.isupper()},
        **request["headers"],
    }
    response = WSGIHandler()(environ, lambda *args: started.append(args))
    try:
        body = b"".join(response)
    finally:
        response.close()
    status, sent, *_ = started[0]
    return int(status[:3]), f"{sent}\n{body.decode('utf-8', 'replace')}"


def check(request: Request, *, is_open: bool) -> None:
    began = time.monotonic()
    status, text = response_of(request)
    assert time.monotonic() - began < 30, "the request took 30 s; it normally takes milliseconds"
    assert status in STATUSES, text
    assert TRACEBACK not in text
    for secret in (IN_SETTINGS, IN_ENVIRONMENT, TOKEN, "pw-9"):
        assert secret not in text
    if not is_open:
        assert "Leaky" not in text


def fuzz(count: int) -> Any:
    """Return a decorator that calls a test with `count` generated requests."""
    return lambda test: settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(request=requests)(test))


@pytest.fixture
def open_site(site: Site) -> None:
    """Set up a site without tokens that has stored results."""
    client = site(
        SMOKE, SHOP_PASSWORD=IN_SETTINGS, ALLOWED_HOSTS=["testserver"], SMOKETEST_MAX_AGE=600,
    )  # fmt: skip
    report = json.loads(client.get("/smoketest/?format=json").content)
    assert report["status"] == "PASS"
    assert report["warnings"]


@pytest.fixture
def protected_site(site: Site) -> None:
    """Set up a site that requires a token."""
    site(SMOKE, SHOP_PASSWORD=IN_SETTINGS, ALLOWED_HOSTS=["testserver"], SMOKETEST_TOKENS=[TOKEN])


@pytest.mark.usefixtures("open_site")
@fuzz(300)
def test_open_site(request: Request) -> None:
    """No request causes an error, exposes a secret or takes long."""
    check(request, is_open=True)


@pytest.mark.usefixtures("protected_site")
@fuzz(100)
def test_protected_site(request: Request) -> None:
    """In addition, a site that requires a token exposes no test names."""
    check(request, is_open=False)


@pytest.mark.e2e
@pytest.mark.usefixtures("open_site")
@fuzz(16_000)
def test_open_site__many_requests(request: Request) -> None:
    check(request, is_open=True)


@pytest.mark.e2e
@pytest.mark.usefixtures("protected_site")
@fuzz(4_000)
def test_protected_site__many_requests(request: Request) -> None:
    check(request, is_open=False)
