"""An optional middleware that serves the endpoints before any other middleware is asked.

For sites whose ``ALLOWED_HOSTS`` refuse a scrape by the address of a pod, that redirect every
request to HTTPS, or that need a log-in for all pages. It is the first of ``MIDDLEWARE``.
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
    """Answer requests below the URL of the endpoints, and pass all others on."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            # Resolved here, as Django does: a thread for it would cost every request of the site.
            if endpoint := _endpoint(request):
                return await sync_to_async(endpoint)()
            passed_on: Awaitable[HttpResponseBase] = get_response(request)
            return await passed_on

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponseBase:
        endpoint = _endpoint(request)
        response: HttpResponseBase = endpoint() if endpoint else get_response(request)
        return response

    return middleware


def _endpoint(request: HttpRequest) -> Callable[[], HttpResponseBase] | None:
    """What answers the request, if an endpoint is at its path."""
    # As LocaleMiddleware, which comes later, would say, for URLs inside `i18n_patterns`.
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
