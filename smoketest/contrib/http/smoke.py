"""One class of smoke tests for each entry of ``SMOKETEST_HTTP_CHECKS``."""

from smoketest.contrib.http.cases import attributes_of, case_of
from smoketest.contrib.http.conf import conf
from smoketest.contrib.http.targets import parse
from smoketest.contrib.variants import define

for _check in map(parse, conf.checks):
    define(globals(), case_of(_check), _check.name, **attributes_of(_check))
