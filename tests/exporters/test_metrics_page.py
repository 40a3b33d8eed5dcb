"""The metrics page of the site: the label of the site, and the URL."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.conftest import Site
from tests.servers.exposition import Exposition

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

SMOKE = """
class T(SmokeTest):
    def test_it(self):
        pass
"""


def scrape(client: Client, url: str = "/smoketest/metrics") -> Exposition:
    response = client.get(url)
    assert response.status_code == 200
    return Exposition(response.text)


def test_project__is_a_label_of_every_series(site: Site, settings: Any) -> None:
    """The label takes effect at once, although the results were recorded without it."""
    client = site(SMOKE)
    client.get("/smoketest/")
    bare = scrape(client)
    assert not any("django_project" in dict(labels) for _, labels in bare.samples)
    settings.SMOKETEST_PROJECT = "shop"
    added = frozenset({("django_project", "shop")})
    with_label = {
        (name, labels | added): value
        for (name, labels), value in bare.samples.items()
        if name != "smoketest_test_info"
    }
    assert with_label.items() <= scrape(client).samples.items()
    assert len(scrape(client).samples) == len(bare.samples)
    settings.SMOKETEST_PROJECT = ""
    assert scrape(client).samples == bare.samples


def test_url__with_a_slash(site: Site) -> None:
    """The metrics are served with and without a slash; links have none, as in 2.0."""
    client = site(SMOKE, SMOKETEST_RUN_ON_SCRAPE=False)
    client.get("/smoketest/")
    assert scrape(client, "/smoketest/metrics/").samples == scrape(client).samples
    assert client.head("/smoketest/metrics/").status_code == 200
    assert client.get("/smoketest/metrics//").status_code == 404
    assert client.get("/smoketest/metrics%0A").status_code == 404
    assert reverse("smoketest:metrics") == "/smoketest/metrics"


def test_runbook_url__is_never_truncated(site: Site) -> None:
    """The link of a test is complete in the metrics and in the report."""
    url = f"https://wiki.example/{'r' * 3000}"
    client = site(f"class T(SmokeTest):\n    runbook_url = {url!r}\n    def test_it(self): pass")
    (result,) = client.get("/smoketest/?format=json").json()["results"]
    assert result["runbook_url"] == url
    (series,) = scrape(client).matching("smoketest_test_info")
    assert dict(series[1])["runbook_url"] == url
