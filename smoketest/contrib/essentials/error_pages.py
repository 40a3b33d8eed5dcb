"""Base class of the tests of the error pages."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.middleware.csrf import REASON_NO_CSRF_COOKIE
from django.urls import get_callable, get_resolver
from django.utils.module_loading import import_string
from django.views.csrf import csrf_failure

from smoketest.case import SmokeTest
from smoketest.contrib.essentials.explain import failing

Handler = Callable[..., HttpResponseBase]


class ErrorPages(SmokeTest):
    """Tests that call the error handlers directly, as Django does after an error."""

    timeout: ClassVar[float | None] = 5
    every = 60

    def render(self, status: int, default: Handler, *exceptions: Exception) -> None:
        """Render the error page of a status. Skip the test if the site has its own handler."""
        with failing(f"The site's handler{status} cannot be found", "Run: manage.py check"):
            handler = get_resolver().resolve_error_handler(status)
        self._render(handler, default, f"handler{status}", f"{status}.html", status, exceptions)

    def render_csrf_failure(self) -> None:
        with failing("CSRF_FAILURE_VIEW cannot be found", "Run: manage.py check"):
            handler = get_callable(settings.CSRF_FAILURE_VIEW)
        reason = (REASON_NO_CSRF_COOKIE,)
        self._render(handler, csrf_failure, "CSRF_FAILURE_VIEW", "403_csrf.html", 403, reason)

    def _render(
        self,
        handler: Handler,
        default: Handler,
        name: str,
        template: str,
        status: int,
        arguments: tuple[Any, ...],
    ) -> None:
        if handler is not default:
            self.skipTest(f"The site has its own {name}: write a smoke test for it.")
        advice = f"Visitors see a bare error page. Fix the template {template}, or remove it."
        with failing(f"{template} does not render", advice):
            response = self._ask(handler, template, arguments)
        self.assertEqual(response.status_code, status)
        self.assertTrue(response.content.strip(), f"{template} is empty. {advice}")

    def _ask(self, handler: Handler, template: str, arguments: tuple[Any, ...]) -> Any:
        request = visitor_request()
        try:
            return handler(request, *arguments)
        except AttributeError as error:
            if error.obj is not request:
                raise
            self.skipTest(
                f"{template} uses request.{error.name}, which middleware sets: write a smoke test"
                " with self.client."
            )


def visitor_request() -> HttpRequest:
    """Return a request of an anonymous user, with the attributes that Django's middleware adds."""
    request: Any = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = "/"
    allowed = next((host.lstrip(".") for host in settings.ALLOWED_HOSTS if host != "*"), "")
    request.META = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_NAME": allowed or "localhost",
        "SERVER_PORT": "443",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "https",
    }
    request.LANGUAGE_CODE = settings.LANGUAGE_CODE
    if apps.is_installed("django.contrib.sessions"):
        request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    if apps.is_installed("django.contrib.auth"):
        request.user = import_string("django.contrib.auth.models.AnonymousUser")()
    return request  # type: ignore[no-any-return]
