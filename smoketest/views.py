"""The views of the endpoints: results, metrics, the page of a test, and static files."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from time import time
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.utils.cache import get_conditional_response
from django.views.generic import View

from smoketest import services
from smoketest.conf import conf
from smoketest.coordination import background
from smoketest.coordination.coordinator import (
    RETRY_AFTER,
    Answer,
    BusyError,
    Freshness,
    NothingSelectedError,
    NotStoredError,
    PausedError,
    is_due,
)
from smoketest.coordination.streaming import stream_events
from smoketest.coordination.suggestions import NO_TESTS, Unknown
from smoketest.formats import HTML, TEXT, Format, RenderEvent
from smoketest.results import Event, Listener, Selection, ignore_events, utc
from smoketest.store import StoreError
from smoketest.store.directory import StateError
from smoketest.web import pages
from smoketest.web.access import CHALLENGE, UNAUTHORIZED, Role, Viewer, role_of
from smoketest.web.query import (
    InvalidQueryError,
    Query,
    accepts_gzip,
    format_of_error,
    parse_form,
    parse_query,
    preferred_encoding,
    query_of_test,
)
from smoketest.web.responses import finalize, set_age, set_no_store, status_of

logger = logging.getLogger("smoketest")

MISCONFIGURED = (
    "A SMOKETEST_* setting is invalid, so nothing was run. Run manage.py check on the server to see"
    " which one and what is allowed; the log shows it too."
)

FORGED = (
    "Nothing was run, because the CSRF token of the form is missing or expired. Reload the page and"
    " try again."
)

NOT_STORED = (
    "No stored result is fresh enough. Repeat the request without only-if-cached to run the tests."
)

CROSS_SITE = (
    "Another site sent this request, so no test was run, and no stored result is fresh enough. Open"
    " the URL directly to run the tests."
)

BUSY = "The smoke tests are running, and too many requests are waiting."

STATE_UNUSABLE = (
    "The state directory of the smoke tests cannot be used, so nothing was run. The log of the site"
    " shows the reason."
)

#: Exceptions of the coordinator that `EndpointView.no_answer` turns into responses.
NO_ANSWER = (NothingSelectedError, NotStoredError, PausedError, BusyError, StateError)


class EndpointView(View):
    """Base class of the endpoints: access control, and errors of the configuration."""

    http_method_names = ["get", "head", "options"]  # noqa: RUF012 - as Django declares it
    role: Role
    viewer: Viewer
    #: Whether another site made the browser send the request.
    is_cross_site = False

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return a view that is exempt from ``LoginRequiredMiddleware`` and ``ATOMIC_REQUESTS``."""
        view = login_not_required(super().as_view(**initkwargs))
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase
        try:
            self.role = role_of(request, conf.tokens)
            self.viewer = _viewer(self.role)
            if self.role is Role.DENIED:
                response = self.answer_denied(request)
            else:
                response = super().dispatch(request, *args, **kwargs)
        except ImproperlyConfigured as error:
            logger.error("%s Nothing was run.", error)  # noqa: TRY400 - no traceback needed
            response = _error_response(request, 503, MISCONFIGURED)
        return _without_body(response) if request.method == "HEAD" else response

    def answer_denied(self, request: HttpRequest) -> HttpResponse:
        """Return status 401 and ask for a token."""
        response = _error_response(request, 401, UNAUTHORIZED)
        response["WWW-Authenticate"] = CHALLENGE
        return response

    def ask(self, query: Query, listener: Listener) -> Answer:
        """Return the answer of the coordinator. Raise one of `NO_ANSWER`."""
        return services.coordinator().answer(
            query.selection,
            query.freshness,
            failfast=query.failfast,
            # Only clients with full access retry a failing test before its `every` has passed.
            interval=conf.interval if self.role is Role.FULL else None,
            listener=listener,
        )

    def run_form(
        self,
        request: HttpRequest,
        parse: Callable[[], Query],
        redirect_to: Callable[[Query], HttpResponse],
    ) -> HttpResponse:
        """Run the tests that a form selects, and redirect to a page with the result.

        `parse` is called only if the form has a valid CSRF token.
        """
        if pages.is_forged(request):
            return problem(403, FORGED, HTML)
        try:
            query = parse()
        except InvalidQueryError as error:
            return problem(400, str(error), HTML)
        try:
            self.ask(query, ignore_events)
        except NO_ANSWER as error:
            return self.no_answer(error, query)
        return finalize(redirect_to(query))

    def no_answer(self, error: Exception, query: Query) -> HttpResponse:
        """Return a response for one of the exceptions of `NO_ANSWER`."""
        match error:
            case NothingSelectedError(unknown=unknown):
                return problem(404, _nothing_selected(query.selection, unknown), query.format)
            case NotStoredError():
                message = CROSS_SITE if self.is_cross_site else NOT_STORED
                return problem(504, message, query.format)
            case PausedError(pause=pause):
                message = (
                    f"The smoke tests are paused until {utc(pause.until)} ({pause.reason}), and no"
                    " result is stored. To end the pause, run manage.py smoketest --resume."
                )
                return _unavailable(message, pause.until - time(), query.format)
            case StateError():
                logger.error("%s", error)
                message = str(error) if self.viewer.sees_tracebacks else STATE_UNUSABLE
                return _unavailable(message, RETRY_AFTER, query.format)
        return _unavailable(BUSY, RETRY_AFTER, query.format)


class IndexView(EndpointView):
    """Run the smoke tests, or return a stored report that is fresh enough.

    ``include("smoketest.urls")`` adds this view with those of the metrics and the HTML page. Use it
    directly to restrict access with a decorator; it then returns only text, JSON and ndjson::

        path("smoketest/", login_required(IndexView.as_view()))
    """

    http_method_names = ["get", "head", "post", "options"]  # noqa: RUF012 - as Django declares it

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            query = parse_query(request)
        except InvalidQueryError as error:
            return problem(400, str(error), format_of_error(request))
        if query.format is HTML and not pages.are_available():
            query = replace(query, format=TEXT)
        if query.format is HTML and pages.shows_stored_report(request, query):
            show = pages.stored_overview
            return finalize(show(request, query, self.viewer))
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # Another site made the browser send this request (https://www.w3.org/TR/fetch-metadata/).
            self.is_cross_site = True
            freshness = replace(query.freshness, no_cache=False, only_if_cached=True)
            query = replace(query, freshness=freshness)
        if query.format.render_event and request.method != "HEAD":
            return self.stream(query, query.format.render_event)
        return self.respond(query)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Run the tests that the form selects, and redirect to the page."""
        if not pages.are_available():
            return self.http_method_not_allowed(request)
        return self.run_form(request, lambda: parse_form(request.POST), pages.redirect_to_overview)

    def answer_denied(self, request: HttpRequest) -> HttpResponse:
        """Return the status of a stored report if ``SMOKETEST_PUBLIC_STATUS`` is True."""
        if not conf.public_status or request.method not in {"GET", "HEAD"} or request.GET:
            return super().answer_denied(request)
        freshness = Freshness(max_age=_public_age(), only_if_cached=True)
        try:
            answer = services.coordinator().answer(Selection(), freshness)
        except NO_ANSWER:
            return _unavailable("There is no recent result.", RETRY_AFTER, TEXT)
        status = status_of(answer.report)
        return set_age(_response(status, f"{answer.report.status}\n", TEXT), answer)

    def respond(self, query: Query) -> HttpResponse:
        """Return the report, and wait for a run if one is needed.

        Under ASGI, Django runs the sync code of each request in a thread of its own, so neither the
        event loop nor other requests are blocked.
        """
        try:
            answer = self.ask(query, ignore_events)
        except NO_ANSWER as error:
            return self.no_answer(error, query)
        if query.format.render is None:
            show = pages.overview_of
            page = show(self.request, query, answer, self.viewer)
            return set_age(finalize(page), answer)
        content = query.format.render(
            self.viewer.answer(answer), with_tracebacks=self.viewer.sees_tracebacks
        )
        response = _response(status_of(answer.report), content, query.format)
        return set_age(response, answer)

    def stream(self, query: Query, render_event: RenderEvent) -> HttpResponseBase:
        """Return the events of a run as they occur, followed by the report."""
        events = stream_events(partial(self.ask, query))
        try:
            first = next(events)
        except NO_ANSWER as error:
            return self.no_answer(error, query)
        lines = self._lines(chain([first], events), query, render_event)
        status = status_of(first.report) if isinstance(first, Answer) else 200
        content: Any = _asynchronous(lines) if isinstance(self.request, ASGIRequest) else lines
        response = StreamingHttpResponse(
            content, status=status, content_type=query.format.content_type
        )
        response["X-Accel-Buffering"] = "no"  # turns off buffering in nginx
        return finalize(response)

    def _lines(
        self, events: Iterator[Event | Answer], query: Query, render_event: RenderEvent
    ) -> Iterator[str]:
        viewer = self.viewer
        try:
            for one in events:
                yield render_event(viewer.event(one), with_tracebacks=viewer.sees_tracebacks)
        except NO_ANSWER as error:
            yield self.no_answer(error, query).text


class MetricsView(EndpointView):
    """Return the metrics for Prometheus. A run that is due is started in the background."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        state = services.state()
        status = services.status(state.store)
        interval = conf.interval
        if (
            conf.run_on_scrape
            and interval is not None
            and is_due(status, interval, is_shared=state.store.is_shared)
        ):
            background.start(services.coordinator(), interval)
        encoding = preferred_encoding(request)
        is_compressed = accepts_gzip(request)
        body = state.exposition.render(
            status, services.metrics_context(state, status), encoding, compressed=is_compressed
        )
        response = HttpResponse(body, content_type=encoding.content_type)
        response["Content-Length"] = str(len(body))
        response["Vary"] = "Accept, Accept-Encoding"
        if is_compressed:
            response["Content-Encoding"] = "gzip"
        return set_no_store(response)


UNKNOWN = (
    "Unknown smoke test {}. It was renamed or removed, or has not run yet. Run all tests, then look"
    " for it in the results."
)


class TestView(EndpointView):
    """Return the page of a test, or run it."""

    #: Keeps pytest from collecting this class.
    __test__: ClassVar[bool] = False
    http_method_names = ["get", "head", "post", "options"]  # noqa: RUF012 - as Django declares it

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        test_id: str = kwargs["test_id"]
        try:
            page = pages.details_of(request, test_id, self.viewer)
        except StoreError:
            return problem(503, "The stored results cannot be read.", HTML)
        return finalize(page) if page else problem(404, UNKNOWN.format(test_id), HTML)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Run the test, and redirect to its page."""
        test_id: str = kwargs["test_id"]
        return self.run_form(
            request, lambda: query_of_test(test_id), lambda _: pages.redirect_to_test(test_id)
        )


class AssetView(EndpointView):
    """Return a static file of the pages. Its name changes with its content."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        name: str = kwargs["name"]
        asset = pages.asset_named(name)
        if asset is None:
            return problem(404, f"Unknown file {name}.", TEXT)
        response = HttpResponse(asset.content, content_type=asset.media_type)
        etag = f'"{asset.name}"'
        is_current = name == asset.name
        response["ETag"] = etag
        response["Cache-Control"] = (
            "private, max-age=31536000, immutable" if is_current else "private, no-cache"
        )
        response["X-Content-Type-Options"] = "nosniff"
        return get_conditional_response(request, etag=etag, response=response) or response


def _viewer(role: Role) -> Viewer:
    sees_details = role is Role.FULL or conf.shows_details_to_all
    return Viewer(
        sees_details=sees_details,
        sees_tracebacks=role is Role.FULL or (settings.DEBUG and sees_details),
    )


async def _asynchronous(lines: Iterator[str]) -> AsyncIterator[str]:
    """Iterate in a thread, so that the event loop is not blocked."""
    next_line = sync_to_async(partial(next, lines, None), thread_sensitive=False)
    while (line := await next_line()) is not None:
        yield line


def _nothing_selected(selection: Selection, unknown: Iterable[Unknown]) -> str:
    if selection.is_everything:
        return NO_TESTS
    sentences = [
        f"No smoke test matches {selection}.",
        *(one.hint for one in unknown if one.hint),
        (
            "Select tests by module.Class.method or the first parts of that name. To see all names"
            " and tags, request ?format=json."
        ),
    ]
    return " ".join(sentences)


def _without_body(response: HttpResponseBase) -> HttpResponseBase:
    """Remove the body of a response to HEAD, but not its length (RFC 9110, section 9.3.2).

    Some servers log a warning about a body that they must not send.
    """
    if isinstance(response, HttpResponse) and response.content:
        response.headers.setdefault("Content-Length", str(len(response.content)))
        response.content = b""
    return response


def _error_response(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """Return an error as text or JSON, because the client has no access to assets of a page."""
    error_format = format_of_error(request)
    return problem(status, message, TEXT if error_format is HTML else error_format)


def problem(status: int, message: str, error_format: Format) -> HttpResponse:
    """Return an error in the requested format; as text if the pages are not available."""
    if error_format is HTML and not pages.are_available():
        error_format = TEXT
    render_error = error_format.render_error or pages.problem
    return _response(status, render_error(status, message), error_format)


def _unavailable(message: str, retry_after: float, error_format: Format) -> HttpResponse:
    seconds = max(1, math.ceil(retry_after))
    response = problem(503, f"{message} Try again in {seconds} s.", error_format)
    response["Retry-After"] = str(seconds)
    return response


def _response(status: int, content: str, content_format: Format) -> HttpResponse:
    response = HttpResponse(content, status=status, content_type=content_format.content_type)
    if content_format is HTML:
        pages.protect(response)
    return finalize(response)


def _public_age() -> float:
    """Return the maximum age of a public status, in seconds.

    It is the age at which alerts report stale results, because clients without a token cannot start
    a run.
    """
    return max(conf.max_age, 3 * (conf.interval or 0.0))
