"""The middleware, which serves only the endpoints, before other middleware."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from asgiref.testing import ApplicationCommunicator
from django.conf.urls.i18n import i18n_patterns
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import ResolverMatch, clear_script_prefix, include, path, resolve
from django.utils import translation

from smoketest.middleware import SmokeTestMiddleware
from tests.conftest import Apps

FIRST = "smoketest.middleware.SmokeTestMiddleware"
LOGIN = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]
SECURITY = "django.middleware.security.SecurityMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"

Get = Callable[..., Any]


def page(request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
    return HttpResponse(f"page {request.path_info}")


def fail(_: HttpRequest) -> HttpResponse:
    raise RuntimeError("the page is at fault")


SMOKETEST = include("smoketest.urls")
OTHERS = [path("", page), path("fail", fail), path("<path:rest>", page)]


@pytest.fixture
def site(apps: Apps, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Configure a site with these URLs and settings; the middleware comes first."""
    overrides = []

    def make(*urls: Any, after: list[str] | None = None, **settings: Any) -> None:
        apps.add("class T(SmokeTest):\n    def test_it(self):\n        pass\n")
        changes: dict[str, Any] = {
            "INSTALLED_APPS": [
                "django.contrib.contenttypes",
                "django.contrib.auth",
                "smoketest",
                *apps.names,
            ],
            "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
            # A tuple, because Django caches resolvers by URLconf, which must be hashable.
            "ROOT_URLCONF": (*urls, *OTHERS) if urls else "tests.urls",
            "MIDDLEWARE": [FIRST, *(after or [])],
            "SMOKETEST_STATE_DIR": str(tmp_path / "state"),
            "SMOKETEST_RUN_ON_SCRAPE": False,
        }
        override = override_settings(**changes | settings)
        override.enable()
        overrides.append(override)

    yield make
    for override in reversed(overrides):
        override.disable()
    clear_script_prefix()
    translation.deactivate()


def get_wsgi(path: str, **headers: str) -> Any:
    return Client(raise_request_exception=False).get(path, headers=headers)


class _AsyncClient(AsyncClient):
    """Client whose ``host`` argument replaces the default, instead of being added to it."""

    async def request(self, **request: Any) -> Any:
        return await super().request(**request | {"headers": [*dict(request["headers"]).items()]})


def get_asgi(path: str, **headers: str) -> Any:
    async def get() -> Any:
        return await _AsyncClient(raise_request_exception=False).get(path, headers=headers)

    return asyncio.run(get())


@pytest.fixture(params=[get_wsgi, get_asgi], ids=["wsgi", "asgi"])
def get(request: pytest.FixtureRequest) -> Get:
    """Send a request through WSGI or ASGI."""
    function: Get = request.param
    return function


def assert_served(get: Get, prefix: str = "/smoketest/", **headers: str) -> None:
    """Assert that both endpoints respond."""
    index = get(prefix, **headers)
    assert (index.status_code, index.text[:5]) == (200, "PASS\n")
    metrics = get(f"{prefix}metrics", **headers)
    assert metrics.status_code == 200
    assert "smoketest_last_run_success 1.0" in metrics.text
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_disallowed_host(site: Callable[..., None], get: Get) -> None:
    """The endpoints accept any host, such as the IP address of a pod; other pages do not."""
    site(path("smoketest/", SMOKETEST), after=[COMMON])
    assert_served(get, host="10.0.0.7:8000")
    assert_served(get, host="no/host at all")
    assert get("/other", host="10.0.0.7:8000").status_code == 400
    assert get("/other").text == "page /other"


def test_redirect_to_https(site: Callable[..., None], get: Get) -> None:
    """The endpoints accept HTTP; other pages redirect to HTTPS."""
    site(path("smoketest/", SMOKETEST), after=[SECURITY], SECURE_SSL_REDIRECT=True)
    assert_served(get)
    assert get("/other").status_code == 301


def test_login_required(site: Callable[..., None], get: Get) -> None:
    """The endpoints require no login; other pages do."""
    site(path("smoketest/", SMOKETEST), after=LOGIN, LOGIN_URL="/login")
    assert_served(get)
    answer = get("/other")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login?next=/other")


def test_combined_middleware(site: Callable[..., None], get: Get) -> None:
    site(
        path("smoketest/", SMOKETEST),
        after=[SECURITY, COMMON, *LOGIN],
        SECURE_SSL_REDIRECT=True,
        LOGIN_URL="/login",
    )
    assert_served(get, host="10.0.0.7")


def test_without_middleware(site: Callable[..., None], get: Get) -> None:
    """Without the middleware, the endpoints redirect or reject the host."""
    site(path("smoketest/", SMOKETEST), MIDDLEWARE=[SECURITY, COMMON], SECURE_SSL_REDIRECT=True)
    assert get("/smoketest/metrics").status_code == 301
    assert get("/smoketest/metrics", host="10.0.0.7").status_code in (301, 400)


@pytest.mark.parametrize(
    ("urls", "prefix"),
    [
        (path("health/", SMOKETEST), "/health/"),
        (path("", SMOKETEST), "/"),
        (
            path("ops/", include([path("checks/", include([path("st/", SMOKETEST)]))])),
            "/ops/checks/st/",
        ),
        (path("a b/", SMOKETEST), "/a%20b/"),
        (path("st/", include("smoketest.urls", namespace="health")), "/st/"),
        (path("ops/", include(([path("st/", SMOKETEST)], "ops"))), "/ops/st/"),
        (path("<slug:tenant>/smoketest/", SMOKETEST), "/acme/smoketest/"),
    ],
    ids=["own", "root", "nested", "space", "instance", "namespace", "parameter"],
)
def test_prefix(site: Callable[..., None], get: Get, urls: Any, prefix: str) -> None:
    """The endpoints are served at any prefix."""
    site(urls, after=[COMMON])
    assert_served(get, prefix, host="10.0.0.7")
    assert get("/other").text == "page /other"
    assert get("/other", host="10.0.0.7").status_code == 400


def test_not_included(site: Callable[..., None], get: Get) -> None:
    """A site without the URLs works unchanged."""
    site(path("unrelated", page))
    assert get("/other").text == "page /other"
    assert get("/smoketest/").text == "page /smoketest/"


@pytest.mark.parametrize(
    "other",
    [
        "/",
        "/smoketest",
        "/smoketest-x",
        "/smoketestmetrics",
        "/smoketest/nothing",
        "/smoketest/metrics//",
        "/smoketest/metrics/more",
        "/smoketest//",
        "/x/smoketest/",
        "//smoketest/",
        "/SMOKETEST/",
    ],
)
def test_other_paths__are_not_served(site: Callable[..., None], get: Get, other: str) -> None:
    """A similar path is handled by the site with its middleware."""
    site(path("smoketest/", SMOKETEST), after=[COMMON])
    assert get(other).text.startswith("page /")
    assert get(other, host="10.0.0.7").status_code == 400


def test_unknown_paths__are_not_served(site: Callable[..., None], get: Get) -> None:
    """An unknown path is handled by the other middleware, and not found."""
    site(after=[COMMON])
    for other in ("/nothing", "/smoketest/nothing"):
        assert get(other).status_code == 404
        assert get(other, host="10.0.0.7").status_code == 400


def test_missing_slash(site: Callable[..., None], get: Get) -> None:
    """The page is served without the slash at its end, also to a host that is not allowed."""
    site(after=[COMMON])
    for host in ("testserver", "10.0.0.7"):
        assert get("/smoketest", host=host).text.startswith("PASS\n")
        assert get("/smoketest/metrics/", host=host).status_code == 200


class SelectUrlconf:
    """Middleware that selects the URLconf of the public site or of a tenant by the host."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if request.get_host() == "public.example.com":
            request.urlconf = "tests.urls"  # type: ignore[attr-defined] # read by Django
        return self.get_response(request)


SELECT = "tests.test_middleware.SelectUrlconf"


def site_with_tenants(site: Callable[..., None], **settings: Any) -> None:
    """Configure a site whose URLconf of tenants has one page."""
    defaults = {
        "ROOT_URLCONF": (path("", page),),
        "ALLOWED_HOSTS": [".example.com"],
        "SMOKETEST_URLCONF": "tests.urls",
    }
    site(after=[SELECT], **defaults | settings)


@pytest.mark.parametrize(
    "host", ["10.0.0.7", "10.0.0.7:8000", "[::1]", "[fd00::7]:8000", "localhost", "web:8000"]
)
def test_urlconf__internal_hosts(site: Callable[..., None], get: Get, host: str) -> None:
    """With SMOKETEST_URLCONF, requests to a pod or container are served."""
    site_with_tenants(site)
    assert_served(get, host=host)
    assert get("/smoketest", host=host).status_code == 200


def test_urlconf__public_site_and_tenants(site: Callable[..., None], get: Get) -> None:
    """The public site serves the endpoints by its own URLconf, and tenants do not have them."""
    site_with_tenants(site)
    assert_served(get, host="public.example.com")
    for path_info in ("/smoketest/", "/smoketest/metrics", "/smoketest"):
        assert get(path_info, host="tenant.example.com").status_code == 404
    assert get("/", host="tenant.example.com").text == "page /"
    for host in ("other.example.org", "tenant.example.com,10.0.0.7", "tenant example", ""):
        assert get("/smoketest/", host=host).status_code in (400, 404), host


def test_urlconf__forwarded_host(site: Callable[..., None], get: Get) -> None:
    """The host of a tenant behind a proxy is the forwarded one."""
    site_with_tenants(site, USE_X_FORWARDED_HOST=True)
    headers = {"host": "10.0.0.7", "x-forwarded-host": "tenant.example.com"}
    assert get("/smoketest/", **headers).status_code == 404
    assert get("/smoketest/", host="10.0.0.7").status_code == 200


def test_urlconf__links_of_the_page(site: Callable[..., None], get: Get) -> None:
    """The page finds its own URLs, although ROOT_URLCONF does not include them."""
    site_with_tenants(site)
    answer = get("/smoketest/", host="10.0.0.7", accept="text/html")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "/smoketest/assets/page." in answer.text


def test_urlconf__invalid(site: Callable[..., None], get: Get) -> None:
    """With an invalid value, nothing is served, and the pages of the site work."""
    site_with_tenants(site, SMOKETEST_URLCONF="not a module")
    assert get("/", host="tenant.example.com").text == "page /"
    assert get("/smoketest/", host="10.0.0.7").status_code == 400  # as without the middleware


def test_views_below_prefix__are_not_served(site: Callable[..., None], get: Get) -> None:
    """A view of the site below the prefix is handled by the site."""
    site(path("smoketest/own", page), path("smoketest/", SMOKETEST), after=[COMMON])
    assert get("/smoketest/own").text == "page /smoketest/own"
    assert get("/smoketest/own", host="10.0.0.7").status_code == 400


def test_methods(site: Callable[..., None]) -> None:
    """HEAD is allowed, and PUT is not, as without the middleware."""
    site(path("smoketest/", SMOKETEST))
    client = Client()
    assert client.head("/smoketest/metrics").status_code == 200
    assert client.head("/smoketest/metrics/").status_code == 200
    assert client.put("/smoketest/").status_code == 405


def test_other_paths__do_not_use_a_thread(
    site: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ASGI, requests for other paths are not moved to a thread."""
    site(path("smoketest/", SMOKETEST), *OTHERS)
    resolvers: list[int] = []

    def resolve_and_note(path_info: str) -> ResolverMatch:
        resolvers.append(threading.get_ident())
        return resolve(path_info)

    async def get_response(request: HttpRequest) -> HttpResponse:
        return page(request)

    async def answer(path_info: str) -> HttpResponse:
        request = RequestFactory().get(path_info)
        response: HttpResponse = await SmokeTestMiddleware(get_response)(request)
        return response

    monkeypatch.setattr("smoketest.middleware.resolve", resolve_and_note)
    assert asyncio.run(answer("/other")).content == b"page /other"
    assert resolvers == [threading.get_ident()]
    assert asyncio.run(answer("/smoketest/")).content.startswith(b"PASS")


def test_query(site: Callable[..., None], get: Get) -> None:
    """The query string reaches the endpoint."""
    site(path("smoketest/", SMOKETEST))
    assert get("/smoketest/?format=json").json()["status"] == "PASS"
    assert get("/smoketest/?nonsense=1").status_code == 400
    assert get("/smoketest/?tag=unknown").status_code == 404


def test_exception__in_an_endpoint(
    site: Callable[..., None], get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception results in Django's error page."""
    site(path("smoketest/", SMOKETEST))
    monkeypatch.setattr("smoketest.views.parse_query", fail)
    answer = get("/smoketest/")
    assert answer.status_code == 500
    assert "Server Error (500)" in answer.text
    with override_settings(DEBUG=True):
        assert "the page is at fault" in get("/smoketest/").text


def test_invalid_setting(site: Callable[..., None], get: Get) -> None:
    """The response refers to `manage.py check`."""
    site(path("smoketest/", SMOKETEST), SMOKETEST_MAX_AGE="soon")
    answer = get("/smoketest/")
    assert answer.status_code == 503
    assert "manage.py check" in answer.text


def test_exception__in_a_page(site: Callable[..., None], get: Get) -> None:
    """An exception in another page results in an error page, and the endpoints still work."""
    site(path("smoketest/", SMOKETEST))
    assert get("/fail").status_code == 500
    assert_served(get)


# Script prefix


def through_wsgi(script_name: str, path: str) -> tuple[str, bytes]:
    """Send a request to the WSGI handler; return the status and the body."""
    environ: dict[str, Any] = {"SCRIPT_NAME": script_name, "PATH_INFO": path}
    setup_testing_defaults(environ)
    environ["HTTP_HOST"] = "10.0.0.7"
    statuses = []
    response = WSGIHandler()(environ, lambda status, _: statuses.append(status))
    try:
        return statuses[0], b"".join(response)
    finally:
        response.close()


def through_asgi(script_name: str, path: str) -> tuple[str, bytes]:
    """Send a request to the ASGI handler; return the status and the body."""

    async def send() -> tuple[str, bytes]:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": script_name + path,
            "root_path": script_name,
            "query_string": b"",
            "headers": [(b"host", b"10.0.0.7")],
        }
        communicator = ApplicationCommunicator(ASGIHandler(), scope)
        await communicator.send_input({"type": "http.request", "body": b""})
        start = await communicator.receive_output(60)
        body = await communicator.receive_output(60)
        await communicator.wait(60)
        return str(start["status"]), body["body"]

    return asyncio.run(send())


@pytest.mark.parametrize("send", [through_wsgi, through_asgi])
@pytest.mark.parametrize("script_name", ["", "/app", "/smoketest", "/a/b"])
def test_script_prefix(
    site: Callable[..., None], send: Callable[[str, str], tuple[str, bytes]], script_name: str
) -> None:
    """The endpoints are served below a script prefix."""
    site(path("smoketest/", SMOKETEST), after=[COMMON])
    status, body = send(script_name, "/smoketest/")
    assert (status[:3], body[:5]) == ("200", b"PASS\n")
    status, body = send(script_name, "/smoketest/metrics")
    assert status[:3] == "200"
    assert b"smoketest_last_run_success 1.0" in body
    assert send(script_name, "/other")[0][:3] == "400"
    assert send(script_name, "/")[0][:3] == "400"


def test_prefix__non_ascii(site: Callable[..., None]) -> None:
    """A prefix with non-ASCII characters is served."""
    site(path("prüfung/", SMOKETEST), after=[COMMON])
    for status, body in (
        through_wsgi("", "/prüfung/".encode().decode("latin-1")),  # as required by PEP 3333
        through_asgi("", "/prüfung/"),
    ):
        assert (status[:3], body[:5]) == ("200", b"PASS\n")


def test_force_script_name(site: Callable[..., None], get: Get) -> None:
    """FORCE_SCRIPT_NAME is supported."""
    site(path("smoketest/", SMOKETEST), after=[COMMON], FORCE_SCRIPT_NAME="/app")
    for _ in range(2):
        assert_served(get, host="10.0.0.7")


# Internationalization


@pytest.fixture
def languages(site: Callable[..., None]) -> None:
    """A site in two languages with language prefixes."""
    site(
        *i18n_patterns(path("smoketest/", SMOKETEST), path("page", page)),
        after=["django.middleware.locale.LocaleMiddleware", COMMON],
        USE_I18N=True,
        LANGUAGES=[("en", "English"), ("de", "German")],
        LANGUAGE_CODE="en",
    )


@pytest.mark.usefixtures("languages")
@pytest.mark.parametrize("language", ["en", "de"])
def test_i18n(get: Get, language: str) -> None:
    """The endpoints are served in each language, regardless of the thread's active language."""
    assert_served(get, f"/{language}/smoketest/", host="10.0.0.7")
    for other in ("en", "de"):
        assert get(f"/{other}/page").text == f"page /{other}/page"
        assert_served(get, f"/{language}/smoketest/", host="10.0.0.7")
    assert get(f"/{language}/page", host="10.0.0.7").status_code == 400


def test_i18n__unprefixed_default_language(site: Callable[..., None], get: Get) -> None:
    """With prefix_default_language=False, only other languages have a prefix."""
    site(
        *i18n_patterns(
            path("smoketest/", SMOKETEST), path("page", page), prefix_default_language=False
        ),
        after=["django.middleware.locale.LocaleMiddleware", COMMON],
        USE_I18N=True,
        LANGUAGES=[("en", "English"), ("de", "German")],
        LANGUAGE_CODE="en",
    )
    assert_served(get, "/smoketest/", host="10.0.0.7")
    assert get("/de/page").text == "page /de/page"
    assert_served(get, "/smoketest/", host="10.0.0.7")
    assert_served(get, "/de/smoketest/", host="10.0.0.7")


def test_i18n__endpoints_without_language_prefix(site: Callable[..., None], get: Get) -> None:
    """Endpoints outside i18n_patterns() are served regardless of the active language."""
    site(
        path("smoketest/", SMOKETEST),
        *i18n_patterns(path("page", page)),
        after=["django.middleware.locale.LocaleMiddleware", COMMON],
        USE_I18N=True,
        LANGUAGES=[("en", "English"), ("de", "German")],
        LANGUAGE_CODE="en",
    )
    for language in ("en", "de"):
        assert_served(get, host="10.0.0.7")
        assert get(f"/{language}/page").text == f"page /{language}/page"
        assert_served(get, host="10.0.0.7")
