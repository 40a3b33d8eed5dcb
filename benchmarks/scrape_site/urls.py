"""What is compared: our endpoint, the limit, and the peers, in one site."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from smoketest.services import collector


@cache
def _saved(name: str) -> bytes:
    body: bytes = (settings.FOLDER / name).read_bytes()
    return body


def memory(_: HttpRequest, name: str) -> HttpResponse:
    """The limit: bytes that this process has in memory, with the headers of our endpoint."""
    response = HttpResponse(
        _saved(name),
        content_type="application/openmetrics-text; version=1.0.0; charset=utf-8",
        headers={"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store, private"},
    )
    if name.endswith(".gz"):
        response["Content-Encoding"] = "gzip"
    return response


def multiprocess(_: HttpRequest) -> HttpResponse:
    """As the documentation of prometheus_client has it for several processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(settings.FOLDER / "multiprocess"))
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def registry_of_ours(_: HttpRequest) -> HttpResponse:
    """Our collector in a registry, as django-prometheus and ``--serve`` have it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


urlpatterns = [
    path("smoketest/", include("smoketest.urls")),
    path("memory/<str:name>", memory),
    path("multiprocess", multiprocess),
    path("registry", registry_of_ours),
]
if settings.WITH_PEERS:
    from scrape_site.health import HealthView

    urlpatterns += [path("health", HealthView.as_view())]
