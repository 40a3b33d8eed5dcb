"""URLconf with the checks of the peer at `/checks/`, and another page."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def page(_: HttpRequest) -> HttpResponse:
    """Return a static page."""
    return HttpResponse("A page of the site.")


urlpatterns = [path("page", page)]
if settings.PEER in {"us", "django-smoketest"}:
    urlpatterns += [path("checks/", include("smoketest.urls"))]
elif settings.PEER == "django-watchman":
    from watchman.views import status

    urlpatterns += [path("checks/", status)]
elif settings.PEER == "django-health-check":
    from bench_site.health_checks import View

    urlpatterns += [path("checks/", View.as_view())]
