"""Smoke tests of error pages and static files."""

from django.core.exceptions import BadRequest, PermissionDenied

from smoketest.case import tag
from smoketest.contrib.essentials.error_pages import ErrorPages
from smoketest.contrib.essentials.static_files import StaticFiles
from smoketest.contrib.essentials.targets import is_wanted

if is_wanted("error_pages"):

    @tag("pages", "deploy")
    class ErrorPagesTest(ErrorPages):
        def test_bad_request(self) -> None:
            """The error page for a bad request (400) renders."""
            self.render(400, "400.html", exception=BadRequest())

        def test_permission_denied(self) -> None:
            """The error page for a forbidden page (403) renders."""
            self.render(403, "403.html", exception=PermissionDenied())

        def test_csrf_failure(self) -> None:
            """The error page for a CSRF failure (403) renders."""
            self.render_csrf_failure()

        def test_page_not_found(self) -> None:
            """A path that does not exist has the status 404 and an error page."""
            self.check_missing_page()

        def test_server_error(self) -> None:
            """The error page for a server error (500) renders."""
            self.render(500, "500.html")


if is_wanted("static_files"):

    @tag("pages", "deploy")
    class StaticFilesTest(StaticFiles):
        timeout = 10
        slow_after = 3
        every = 60

        def test_are_all_there(self) -> None:
            """The manifest of the static files can be read, and its files exist."""
            self.check_manifest()
