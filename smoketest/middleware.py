"""Optional middleware that serves the endpoints before any other middleware runs.

Use it if Prometheus scrapes pods by IP addresses that are not in ``ALLOWED_HOSTS``, or if the site
redirects all requests to HTTPS or requires login for all pages. It must be the first entry of
``MIDDLEWARE``.

If other middleware selects the URLconf of a request, as in django-tenants and django-hosts, set
``SMOKETEST_URLCONF`` to the URLconf that includes the endpoints.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.http.request import split_domain_port
from django.urls import Resolver404, ResolverMatch, get_urlconf, resolve, set_urlconf
from django.utils.decorators import sync_and_async_middleware
from django.utils.translation import get_language_from_path, override

from smoketest.conf import InvalidSettingError, conf
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
    try:
        urlconf = conf.urlconf
    except InvalidSettingError:  # reported by a system check; the pages of the site still work
        return None
    if urlconf and not _has_internal_host(request):
        return None  # the middleware of the site selects the URLconf
    # LocaleMiddleware has not run yet, so set the language for URLs inside `i18n_patterns`.
    language = get_language_from_path(request.path_info) or settings.LANGUAGE_CODE
    with override(language), _selected(urlconf):
        match = _match(request.path_info)
    if match is None:
        return None
    request.resolver_match = match

    def respond() -> HttpResponseBase:
        with _selected(urlconf):  # for the links of the pages
            response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
            return response

    return respond


def _match(path: str) -> ResolverMatch | None:
    """Return the match of an endpoint, or None.

    The slash at the end may be missing, because the middleware that appends it has not run yet.
    """
    try:
        match = resolve(path)
    except Resolver404:
        return None if path.endswith("/") else _match(f"{path}/")
    return match if match.app_names[-1:] == [app_name] else None


@contextmanager
def _selected(urlconf: str) -> Iterator[None]:
    """Resolve and reverse URLs with this URLconf; with that of the request if it is empty."""
    before = get_urlconf()
    set_urlconf(urlconf or before)
    try:
        yield
    finally:
        set_urlconf(before)


def _has_internal_host(request: HttpRequest) -> bool:
    """Return whether the host is an IP address or a name without a dot, so no site of a tenant."""
    # Not `get_host()`, which refuses hosts that are not in ALLOWED_HOSTS.
    raw_host: str = request._get_raw_host()  # type: ignore[attr-defined] # not in the stubs
    host, _ = split_domain_port(raw_host)
    with suppress(ValueError):
        return bool(ip_address(host.strip("[]")))
    return host != "" and "." not in host
