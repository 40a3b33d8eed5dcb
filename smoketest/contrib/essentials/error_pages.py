"""Base class of the tests of the error pages."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.http import Http404
from django.middleware.csrf import REASON_NO_CSRF_COOKIE
from django.urls import get_callable, get_resolver

from smoketest.case import SmokeTest
from smoketest.client import SmokeClient
from smoketest.contrib.essentials.explain import describe_error, failing

#: Maximum number of redirects, such as to the host with "www." or to the path of a language.
_MAX_REDIRECTS = 3


class ErrorPages(SmokeTest):
    """Tests that request a path that does not exist.

    The other error pages are rendered for the same request, which has passed the middleware: to
    raise the errors instead would notify the administrators of the site in each run.
    """

    timeout: ClassVar[float | None] = 5
    every = 300
    response: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        client = SmokeClient(raise_request_exception=False)
        client.test_id = f"{cls.__module__}.{cls.__qualname__}"
        cls.addClassCleanup(client.close)
        with failing(
            "A path that does not exist cannot be requested",
            "Visitors get no error page. Fix the middleware, handler404 or handler500.",
        ):
            cls.response = _get_missing_page(client)

    def check_missing_page(self) -> None:
        """Check the response for the path that does not exist."""
        page = _Page(self._get_handler(404), "handler404", "404.html", 404)
        if self.response.exc_info:
            advice = page.advice if self._has_passed_middleware() else "Fix the middleware."
            self.fail(
                f"A path that does not exist fails with status {self.response.status_code}:"
                f" {describe_error(self.response.exc_info[1])} {advice}"
            )
        self._skip_unless_passed()
        match = self.response.wsgi_request.resolver_match
        if match is not None and self.response.status_code != 404:
            self.skipTest(
                f"The URL pattern {match.route!r} matches each path, and its view answers"
                f" {self.response.status_code}."
            )
        if settings.DEBUG:  # the response is Django's page for developers
            self._render(page, exception=Http404())
        else:
            self._check(page, self.response)

    def render(self, status: int, template: str, **arguments: Exception) -> None:
        """Check the handler of a status, called with the exception as Django does."""
        page = _Page(self._get_handler(status), f"handler{status}", template, status)
        self._render(page, **arguments)

    def render_csrf_failure(self) -> None:
        with failing("CSRF_FAILURE_VIEW cannot be found", "Run: manage.py check"):
            view = get_callable(settings.CSRF_FAILURE_VIEW)
        page = _Page(view, "CSRF_FAILURE_VIEW", "403_csrf.html", 403)
        self._render(page, reason=REASON_NO_CSRF_COOKIE)

    def _get_handler(self, status: int) -> Handler:
        with failing(f"The site's handler{status} cannot be found", "Run: manage.py check"):
            urlconf = getattr(self.response.wsgi_request, "urlconf", None)
            handler: Handler = get_resolver(urlconf).resolve_error_handler(status)
        return handler

    def _has_passed_middleware(self) -> bool:
        return hasattr(self.response.wsgi_request, "has_passed_middleware")

    def _skip_unless_passed(self) -> None:
        """Skip the test if middleware has answered, since the request lacks attributes then."""
        if not self._has_passed_middleware():
            self.skipTest(
                f"Middleware of the site answers {self.response.status_code} for a path that does"
                " not exist, before the error pages are used: write a smoke test with self.client."
            )

    def _render(self, page: _Page, **arguments: Any) -> None:
        self._skip_unless_passed()
        with failing(f"{page.name} does not render", page.advice):
            response = page.view(self.response.wsgi_request, **arguments)
            if callable(getattr(response, "render", None)):
                response = response.render()
        self._check(page, response)

    def _check(self, page: _Page, response: Any) -> None:
        if 300 <= response.status_code < 400:
            self.skipTest(f"{page.name} redirects to {response.headers.get('Location')}.")
        # A site may choose another status, such as 404 to hide that a page is forbidden.
        self.assertEqual(
            response.status_code // 100,
            page.status // 100,
            f"{page.name} answers {response.status_code} instead of {page.status}, so that browsers"
            f" and search engines take it for a page of the site. Set the status in {page.place}.",
        )
        content = b"streamed" if response.streaming else response.content
        self.assertTrue(content.strip(), f"{page.name} is empty. {page.advice}")


Handler = Callable[..., Any]


class _Page:
    """An error page: the view that renders it, and its name in messages."""

    def __init__(self, view: Handler, setting: str, template: str, status: int) -> None:
        self.view = view
        self.status = status
        module, name = view.__module__, getattr(view, "__qualname__", type(view).__qualname__)
        if module.startswith("django.views."):
            self.name, self.place = template, f"the template {template}"
        else:
            self.name, self.place = f"{setting} ({module}.{name})", f"the view {module}.{name}"
        self.advice = f"Visitors do not see this error page. Fix {self.place}."


def _get_missing_page(client: SmokeClient) -> Any:
    """Request a path that does not exist, and follow redirects that keep its name."""
    name = f"smoketest-{secrets.token_hex(8)}"
    response = client.get(f"/{name}/")
    for _ in range(_MAX_REDIRECTS):
        location = urlsplit(response.headers.get("Location", ""))
        if name not in location.path:
            break
        response = client.get(
            location.path,
            secure=location.scheme == "https",
            headers={"host": location.netloc} if location.netloc else None,
        )
    return response
