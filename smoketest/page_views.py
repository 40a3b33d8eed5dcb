"""The page of one test, and the files that all pages need."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response

from smoketest import pages
from smoketest.store import StoreError
from smoketest.views import EndpointView, finished, problem, run_form

UNKNOWN = (
    "Nothing is known of a smoke test {}. It was renamed or removed, or it has not run yet:"
    " run all tests, then look for its name among them."
)


class TestView(EndpointView):
    """What is known of one smoke test; its button runs it."""

    #: pytest, which may meet it in a test's module, need not look for tests in it.
    __test__: ClassVar[bool] = False
    http_method_names = ["get", "head", "post", "options"]  # noqa: RUF012 - as Django declares it

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        test_id: str = kwargs["test_id"]
        try:
            page = pages.details_of(request, test_id, with_tracebacks=self.sees_tracebacks)
        except StoreError:
            return problem(503, "The stored results cannot be read.", "html")
        return finished(page) if page else problem(404, UNKNOWN.format(test_id), "html")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Run the test, and lead back to its page."""
        test_id: str = kwargs["test_id"]
        return run_form(
            request, lambda _: pages.query_of_test(test_id), lambda _: pages.back_to_test(test_id)
        )


class AssetView(EndpointView):
    """A style sheet, a script or an icon; each has another name in a release where it differs."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        name: str = kwargs["name"]
        asset = pages.asset_named(name)
        if asset is None:
            return problem(404, f"There is no file {name} of the smoke tests' pages.", "text")
        response = HttpResponse(asset.content, content_type=asset.media_type)
        etag = f'"{asset.name}"'
        is_this_one = name == asset.name
        response["ETag"] = etag
        response["Cache-Control"] = (
            "private, max-age=31536000, immutable" if is_this_one else "private, no-cache"
        )
        response["X-Content-Type-Options"] = "nosniff"
        return get_conditional_response(request, etag=etag, response=response) or response
