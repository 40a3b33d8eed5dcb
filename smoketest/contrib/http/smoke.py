"""Smoke tests of URLs: one class for each entry of ``SMOKETEST_HTTP_CHECKS``."""

from smoketest.contrib.http.cases import get_test_attributes, get_test_class
from smoketest.contrib.http.conf import conf
from smoketest.contrib.http.targets import parse
from smoketest.contrib.variants import define

for _check in map(parse, conf.checks):
    define(globals(), get_test_class(_check), _check.name, **get_test_attributes(_check))
