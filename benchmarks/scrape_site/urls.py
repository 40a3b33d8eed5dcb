"""URLconf with all contenders: the metrics endpoint, the baseline and other packages."""

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
    """Baseline: return bytes from memory, with the headers of the metrics endpoint."""
    response = HttpResponse(
        _saved(name),
        content_type="application/openmetrics-text; version=1.0.0; charset=utf-8",
        headers={"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store, private"},
    )
    if name.endswith(".gz"):
        response["Content-Encoding"] = "gzip"
    return response


def multiprocess(_: HttpRequest) -> HttpResponse:
    """Export the metrics of several processes as documented by prometheus_client."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(settings.FOLDER / "multiprocess"))
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def collector_in_registry(_: HttpRequest) -> HttpResponse:
    """Export the collector through a registry, like django-prometheus and ``--serve``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


urlpatterns = [
    path("smoketest/", include("smoketest.urls")),
    path("memory/<str:name>", memory),
    path("multiprocess", multiprocess),
    path("registry", collector_in_registry),
]
if settings.WITH_PEERS:
    from scrape_site.health import HealthView

    urlpatterns += [path("health", HealthView.as_view())]
