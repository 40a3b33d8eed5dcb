"""Responses with the HTML pages: collect their data, and set their security headers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import time
from typing import NamedTuple
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import CsrfViewMiddleware, get_token
from django.urls import NoReverseMatch, reverse

from smoketest import services
from smoketest.coordination.coordinator import Answer, Coordinator
from smoketest.formats import html
from smoketest.formats.html import (
    LONGEST_QUERY,
    STRIP_LENGTH,
    Details,
    Links,
    Overview,
    PageContext,
    names_within,
    with_newer_results,
)
from smoketest.results import Outcome
from smoketest.runner.source import source_of
from smoketest.store import KnownTest, ResultsStore, StoreError
from smoketest.web.access import Viewer
from smoketest.web.query import Query
from smoketest.web.responses import status_of

#: Value of ``X-Requested-With`` in requests of page.js, which get the same page as a browser.
SCRIPT = "smoketest"

#: Content Security Policy: no inline code or styles, and no resources of other hosts.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """Static file of the pages. Its name includes a digest of its content."""

    #: ``page.0123456789abcdef.css``
    name: str
    content: bytes
    media_type: str


@cache
def assets() -> dict[str, Asset]:
    """Return the static files by their names without digest."""
    by_name = {}
    for path in sorted((Path(__file__).parent / "static").iterdir()):
        if path.suffix in _MEDIA_TYPES:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            by_name[path.name] = Asset(
                f"{path.stem}.{digest}{path.suffix}", content, _MEDIA_TYPES[path.suffix]
            )
    return by_name


def asset_named(name: str) -> Asset | None:
    """Return the asset, or None if it does not exist.

    The digest is optional and may be that of another release.
    """
    match = re.fullmatch(r"(\w+)\.(?:[0-9a-f]{16}\.)?(\w+)", name)
    return assets().get(f"{match[1]}.{match[2]}") if match else None


def is_browser(request: HttpRequest) -> bool:
    """Return whether the request is a navigation of a browser, or comes from page.js.

    Browsers send ``Sec-Fetch-Dest`` over HTTPS and to localhost only, and
    ``Upgrade-Insecure-Requests`` otherwise.
    """
    if request.headers.get("X-Requested-With") == SCRIPT:
        return True
    destination = request.headers.get("Sec-Fetch-Dest")
    if destination is None:
        return request.headers.get("Upgrade-Insecure-Requests") == "1"
    return destination == "document"


def shows_stored_report(request: HttpRequest, query: Query) -> bool:
    """Return whether to show the stored report, and let page.js start a run if one is needed."""
    is_explicit = query.freshness.only_if_cached or "max_age" in request.GET
    return is_browser(request) and not is_explicit


def are_available() -> bool:
    """Return whether the site includes ``smoketest.urls``.

    A site that was set up for 1.x may use only the view.
    """
    try:
        reverse("smoketest:asset", args=["page.css"])
    except NoReverseMatch:
        return False
    return True


def stored_overview(request: HttpRequest, query: Query, viewer: Viewer) -> HttpResponse:
    """Return the page with the stored report, regardless of its age, and with status 200."""
    coordinator = services.coordinator()
    store = coordinator.store
    try:
        pause = store.status().pause
        known = _known_tests(store, viewer)
        recent = store.recent_outcomes(STRIP_LENGTH)
        stored = store.latest_report(query.selection, failfast=query.failfast)
    except StoreError as error:
        problem = "The stored results cannot be read"
        overview = Overview(
            selection=query.selection,
            shown=query.shown,
            error=f"{problem}: {error}" if viewer.sees_tracebacks else f"{problem}.",
            fresh_url=_fresh_url(request, coordinator),
        )
        return _overview(request, overview)
    if stored is not None:
        stored = viewer.report(stored)
    is_fresh = stored is not None and coordinator.is_fresh(stored, query.freshness)
    overview = Overview(
        selection=query.selection,
        failfast=query.failfast,
        shown=query.shown,
        report=with_newer_results(stored, known) if stored and stored.results else None,
        known=known,
        recent=recent,
        pause=pause,
        notice=_notice(viewer),
        fresh_url="" if is_fresh or pause else _fresh_url(request, coordinator),
        with_tracebacks=viewer.sees_tracebacks,
    )
    response = _overview(request, overview)
    if stored is not None:
        response["Age"] = str(max(0, math.ceil(time() - stored.finished_at)))
    return response


def overview_of(request: HttpRequest, query: Query, answer: Answer, viewer: Viewer) -> HttpResponse:
    """Return the page with the report of an answer: status 200 for PASS, 500 for FAIL.

    A browser always gets 200, because a proxy may replace the body of an error.
    """
    store = services.state().store
    known: dict[str, KnownTest] = {}
    recent: dict[str, tuple[Outcome, ...]] = {}
    with suppress(StoreError):
        known = _known_tests(store, viewer)
        recent = store.recent_outcomes(STRIP_LENGTH)
    overview = Overview(
        selection=query.selection,
        failfast=query.failfast,
        shown=query.shown,
        report=viewer.report(answer.report),
        known=known,
        recent=recent,
        pause=answer.pause,
        notice=_notice(viewer),
        with_tracebacks=viewer.sees_tracebacks,
    )
    status = 200 if is_browser(request) else status_of(answer.report)
    return _overview(request, overview, status)


def details_of(request: HttpRequest, test_id: str, viewer: Viewer) -> HttpResponse | None:
    """Return the page of a test, or None if it has no stored results. Raise `StoreError`."""
    store = services.state().store
    test = store.known_test(test_id)
    if test is None:
        return None
    failure = store.last_failure(test_id)
    details = Details(
        test=viewer.known_test(test),
        past=store.past_results(test_id),
        last_failure=viewer.result(failure) if failure else None,
        source=str(source_of(test_id) or "") if viewer.sees_tracebacks else "",
        pause=store.status().pause,
        with_tracebacks=viewer.sees_tracebacks,
    )
    return _page(request, lambda page: html.render_details(details, page))


def problem(status: int, message: str) -> str:
    """Return an error page."""
    return html.render_problem(status, message, PageContext(links=_links(), now=time()))


def protect(response: HttpResponse) -> HttpResponse:
    """Set security headers."""
    response["Content-Security-Policy"] = POLICY
    response["X-Content-Type-Options"] = "nosniff"
    # Django's CSRF protection requires the Referer header over HTTPS.
    response["Referrer-Policy"] = "same-origin"
    response["X-Frame-Options"] = "DENY"
    return response


def is_forged(request: HttpRequest) -> bool:
    """Return whether the CSRF token of a form is missing or invalid."""
    middleware = CsrfViewMiddleware(_placeholder)
    try:
        middleware.process_request(request)
        return middleware.process_view(request, _placeholder, (), {}) is not None
    except Exception:  # noqa: BLE001 - the session with the token cannot be read
        return True


def redirect_to_overview(query: Query) -> HttpResponseRedirect:
    """Redirect to the page with the selected tests."""
    selection = replace(
        query.selection, names=tuple(names_within(query.selection.names, LONGEST_QUERY))
    )
    fields = [*selection.parameters(), *([("failfast", "1")] if query.failfast else [])]
    return _see_other(_links().index + (f"?{urlencode(fields)}" if fields else ""))


def redirect_to_test(test_id: str) -> HttpResponseRedirect:
    """Redirect to the page of a test."""
    return _see_other(_links().test(test_id))


def _see_other(url: str) -> HttpResponseRedirect:
    """Redirect after a POST request: 303 makes the browser send GET (RFC 9110, 15.4.4)."""
    response = HttpResponseRedirect(url)
    response.status_code = 303
    return response


def _overview(request: HttpRequest, overview: Overview, status: int = 200) -> HttpResponse:
    return _page(request, lambda page: html.render_overview(overview, page), status)


def _page(
    request: HttpRequest, render: Callable[[PageContext], str], status: int = 200
) -> HttpResponse:
    """Return a page with forms, and set the CSRF cookie."""
    middleware = CsrfViewMiddleware(_placeholder)
    try:
        middleware.process_request(request)
        token = get_token(request)
    except Exception:  # noqa: BLE001 - the token may be in a session that cannot be read
        token = ""
    content = render(PageContext(links=_links(), now=time(), csrf_token=token))
    response = HttpResponse(content, status=status, content_type="text/html; charset=utf-8")
    if token:
        middleware.process_response(request, response)
    return protect(response)


def _links() -> Links:
    return Links(
        index=reverse("smoketest:smoketest"),
        assets={
            name.replace(".", "_"): reverse("smoketest:asset", args=[asset.name])
            for name, asset in assets().items()
        },
    )


def _known_tests(store: ResultsStore, viewer: Viewer) -> dict[str, KnownTest]:
    return {test.result.id: viewer.known_test(test) for test in store.snapshot().tests}


def _notice(viewer: Viewer) -> str:
    """Return a message if the processes of the site do not share their results."""
    problem = services.state().problem
    if not problem:
        return ""
    consequence = "Each process of the site keeps its own results, so reloading may show others."
    reason = problem if viewer.sees_tracebacks else "The log of the site shows the reason."
    return f"{consequence} {reason}"


def _fresh_url(request: HttpRequest, coordinator: Coordinator) -> str:
    """Return a URL of this page with a maximum age, which makes the server run the tests first."""
    query = request.GET.copy()
    query["max_age"] = f"{coordinator.max_age:.3f}"
    return f"?{query.urlencode()}"


def _placeholder(request: HttpRequest) -> HttpResponse:
    """View to pass to the CSRF middleware, which does not call it."""
    return HttpResponse(request.path)
