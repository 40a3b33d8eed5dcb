"""URLs of the endpoints, for ``include("smoketest.urls")``."""

from django.urls import path, re_path

from smoketest.views import AssetView, IndexView, MetricsView, TestView

app_name = "smoketest"

urlpatterns = [
    path("", IndexView.as_view(), name="smoketest"),
    re_path(r"^metrics/?\Z", MetricsView.as_view(), name="metrics"),
    path("test/<path:test_id>/", TestView.as_view(), name="test"),
    path("assets/<str:name>", AssetView.as_view(), name="asset"),
]
