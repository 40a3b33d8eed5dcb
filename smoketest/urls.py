"""URLs of the endpoints, for ``include("smoketest.urls")``."""

from django.urls import path

from smoketest.views import AssetView, IndexView, MetricsView, TestView

app_name = "smoketest"

urlpatterns = [
    path("", IndexView.as_view(), name="smoketest"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("test/<path:test_id>/", TestView.as_view(), name="test"),
    path("assets/<str:name>", AssetView.as_view(), name="asset"),
]
