"""The pages for people: what they show is gathered here, and sent under a strict policy."""

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
from smoketest.coordination.coordinator import CLOCK_TOLERANCE, Answer, Coordinator, Freshness
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
from smoketest.results import Outcome, Report, Selection
from smoketest.runner.source import source_of
from smoketest.store import KnownTest, StoreError
from smoketest.web.query import Query

#: What the script of the page sends, which is no navigation of a browser but wants the same.
SCRIPT = "smoketest"

#: Nothing inline, and nothing from another host.
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
    """A file that pages need, by a name that is another whenever its content is."""

    #: ``page.0123456789abcdef.css``
    name: str
    content: bytes
    media_type: str


@cache
def assets() -> dict[str, Asset]:
    """By the names of the files."""
    found = {}
    for path in sorted((Path(__file__).parent / "static").iterdir()):
        if path.suffix in _MEDIA_TYPES:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found[path.name] = Asset(
                f"{path.stem}.{digest}{path.suffix}", content, _MEDIA_TYPES[path.suffix]
            )
    return found


def asset_named(name: str) -> Asset | None:
    """The asset that has, or in another release had, this name."""
    match = re.fullmatch(r"(\w+)\.(?:[0-9a-f]{16}\.)?(\w+)", name)
    return assets().get(f"{match[1]}.{match[2]}") if match else None


def is_browser(request: HttpRequest) -> bool:
    """Whether a person waits for the page: then it comes at once, whatever it has to say.

    Browsers tell where a response goes, but on HTTPS and the local host alone; that they would
    rather have HTTPS they say everywhere else.
    """
    if request.headers.get("X-Requested-With") == SCRIPT:
        return True
    destination = request.headers.get("Sec-Fetch-Dest")
    if destination is None:
        return request.headers.get("Upgrade-Insecure-Requests") == "1"
    return destination == "document"


def comes_at_once(request: HttpRequest, query: Query) -> bool:
    """Whether the page shows what is stored, and leaves it to the browser to ask for a run."""
    is_explicit = query.freshness.only_if_cached or "max_age" in request.GET
    return is_browser(request) and not is_explicit


def can_be_shown() -> bool:
    """Whether the pages have addresses: a view of 1.x may stand alone, without our URLs."""
    try:
        reverse("smoketest:asset", args=["page.css"])
    except NoReverseMatch:
        return False
    return True


def overview_at_once(request: HttpRequest, query: Query, *, with_tracebacks: bool) -> HttpResponse:
    """The page with what is stored, however old; its status is 200, as that much is there."""
    coordinator = services.coordinator()
    store = coordinator.store
    try:
        pause = store.status().pause
        known = {test.result.id: test for test in store.snapshot().tests}
        recent = store.recent_outcomes(STRIP_LENGTH)
        stored = store.latest_report(query.selection, failfast=query.failfast)
    except StoreError as error:
        trouble = "The stored results cannot be read"
        overview = Overview(
            selection=query.selection,
            shown=query.shown,
            trouble=f"{trouble}: {error}" if with_tracebacks else f"{trouble}.",
            fresh_url=_fresh_url(request, coordinator),
        )
        return _overview(request, overview)
    is_fresh = pause is not None or _is_fresh(stored, coordinator, query)
    overview = Overview(
        selection=query.selection,
        failfast=query.failfast,
        shown=query.shown,
        report=with_newer_results(stored, known) if stored and stored.results else None,
        known=known,
        recent=recent,
        pause=pause,
        fresh_url="" if is_fresh else _fresh_url(request, coordinator),
        with_tracebacks=with_tracebacks,
    )
    response = _overview(request, overview)
    if stored is not None:
        response["Age"] = str(max(0, math.ceil(time() - stored.finished_at)))
    return response


def overview_of(
    request: HttpRequest, query: Query, answer: Answer, *, with_tracebacks: bool
) -> HttpResponse:
    """The page with an answer: 200 for PASS, 500 for FAIL.

    A browser always gets 200, or what is on the way to it might put another page in its place.
    """
    store = services.state().store
    known: dict[str, KnownTest] = {}
    recent: dict[str, tuple[Outcome, ...]] = {}
    with suppress(StoreError):
        known = {test.result.id: test for test in store.snapshot().tests}
        recent = store.recent_outcomes(STRIP_LENGTH)
    overview = Overview(
        selection=query.selection,
        failfast=query.failfast,
        shown=query.shown,
        report=answer.report,
        known=known,
        recent=recent,
        pause=answer.pause,
        with_tracebacks=with_tracebacks,
    )
    is_fine = answer.report.passed or is_browser(request)
    return _overview(request, overview, status=200 if is_fine else 500)


def details_of(request: HttpRequest, test_id: str, *, with_tracebacks: bool) -> HttpResponse | None:
    """The page of one test; None if nothing is known of it. Raises `StoreError`."""
    store = services.state().store
    test = store.known_test(test_id)
    if test is None:
        return None
    details = Details(
        test=test,
        past=store.past_results(test_id),
        last_failure=store.last_failure(test_id),
        source=str(source_of(test_id) or "") if with_tracebacks else "",
        pause=store.status().pause,
        with_tracebacks=with_tracebacks,
    )
    return _page(request, lambda frame: html.render_details(details, frame))


def problem(status: int, message: str) -> str:
    """The text of a page that says why there is no other."""
    return html.render_problem(status, message, PageContext(links=_links(), now=time()))


def protect(response: HttpResponse) -> HttpResponse:
    """Let a browser do nothing with the page but show it."""
    response["Content-Security-Policy"] = POLICY
    response["X-Content-Type-Options"] = "nosniff"
    # Not less: over HTTPS Django's protection against forgery wants to know where a form was.
    response["Referrer-Policy"] = "same-origin"
    response["X-Frame-Options"] = "DENY"
    return response


def is_forged(request: HttpRequest) -> bool:
    """Whether nothing shows that the form which was sent is one of ours."""
    middleware = CsrfViewMiddleware(_nothing)
    try:
        middleware.process_request(request)
        return middleware.process_view(request, _nothing, (), {}) is not None
    except Exception:  # noqa: BLE001 - a session that cannot be read holds no token either
        return True


def query_of_form(request: HttpRequest) -> Query:
    """What the button of a page asks for: a run that begins now."""
    form = request.POST

    def values(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(filter(None, form.getlist(name))))

    return Query(
        selection=Selection(
            names=values("test"), tags=values("tag"), excluded_tags=values("exclude_tag")
        ),
        freshness=Freshness(no_cache=True),
        failfast=form.get("failfast") == "1",
        format="html",
    )


def query_of_test(test_id: str) -> Query:
    """What the button of a test's own page asks for."""
    return Query(
        selection=Selection(names=(test_id,)), freshness=Freshness(no_cache=True), format="html"
    )


def back_to(query: Query) -> HttpResponseRedirect:
    """To the page of what was run."""
    selection = replace(
        query.selection, names=tuple(names_within(query.selection.names, LONGEST_QUERY))
    )
    fields = [*selection.parameters(), *([("failfast", "1")] if query.failfast else [])]
    return _see_other(_links().index + (f"?{urlencode(fields)}" if fields else ""))


def back_to_test(test_id: str) -> HttpResponseRedirect:
    """To the page of the test that was run."""
    return _see_other(_links().test(test_id))


def _see_other(address: str) -> HttpResponseRedirect:
    """To a page that the browser gets, instead of sending the form there."""
    response = HttpResponseRedirect(address)
    response.status_code = 303
    return response


def _overview(request: HttpRequest, overview: Overview, status: int = 200) -> HttpResponse:
    return _page(request, lambda frame: html.render_overview(overview, frame), status)


def _page(
    request: HttpRequest, render: Callable[[PageContext], str], status: int = 200
) -> HttpResponse:
    """A page with forms, whose token the browser keeps as well."""
    middleware = CsrfViewMiddleware(_nothing)
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


def _is_fresh(report: Report | None, coordinator: Coordinator, query: Query) -> bool:
    """Whether the coordinator would answer with this report."""
    if report is None or not report.results or query.freshness.no_cache:
        return False
    asked = query.freshness.max_age
    age = time() - report.finished_at
    return report.started_at >= coordinator.code_loaded_at and -CLOCK_TOLERANCE <= age <= (
        coordinator.max_age if asked is None else asked
    )


def _fresh_url(request: HttpRequest, coordinator: Coordinator) -> str:
    """This page, with what makes the tests run before it comes."""
    query = request.GET.copy()
    query["max_age"] = f"{coordinator.max_age:.3f}"
    return f"?{query.urlencode()}"


def _nothing(request: HttpRequest) -> HttpResponse:
    """Stands in for the view that a middleware wants to know."""
    return HttpResponse(request.path)
