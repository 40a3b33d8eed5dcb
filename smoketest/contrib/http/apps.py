"""App configuration of ``smoketest.contrib.http``."""

from smoketest.contrib.config import ContribConfig
from smoketest.contrib.http.checks import check_http
from smoketest.contrib.http.conf import HttpConf


class HttpConfig(ContribConfig):
    name = "smoketest.contrib.http"
    label = "smoketest_http"
    verbose_name = "Smoke tests of URLs"
    smoke_settings = HttpConf
    smoke_check = staticmethod(check_http)
