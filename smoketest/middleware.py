"""Optional middleware that serves the endpoints before any other middleware runs.

Use it if Prometheus scrapes pods by IP addresses that are not in ``ALLOWED_HOSTS``, or if the site
redirects all requests to HTTPS or requires login for all pages. It must be the first entry of
``MIDDLEWARE``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.decorators import sync_and_async_middleware
from django.utils.translation import get_language_from_path, override

from smoketest.urls import app_name

Handler = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def SmokeTestMiddleware(get_response: Handler) -> Handler:  # noqa: N802 - as Django names them
    """Serve the endpoints, and pass all other requests to the next middleware."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            # Resolved in the event loop, as Django does. A thread would slow down every request.
            if endpoint := _endpoint(request):
                return await sync_to_async(endpoint)()
            response: Awaitable[HttpResponseBase] = get_response(request)
            return await response

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponseBase:
        endpoint = _endpoint(request)
        response: HttpResponseBase = endpoint() if endpoint else get_response(request)
        return response

    return middleware


def _endpoint(request: HttpRequest) -> Callable[[], HttpResponseBase] | None:
    """Return the view and its arguments if the path is that of an endpoint."""
    # LocaleMiddleware has not run yet, so set the language for URLs inside `i18n_patterns`.
    language = get_language_from_path(request.path_info) or settings.LANGUAGE_CODE
    try:
        with override(language):
            match = resolve(request.path_info)
    except Resolver404:
        return None
    if match.app_names[-1:] != [app_name]:
        return None
    request.resolver_match = match
    return partial(match.func, request, *match.args, **match.kwargs)
