"""The suite as smoke tests of version 2 or 1.x, which have the same import."""

from bench_site.suites import test_classes
from smoketest import SmokeTest

# No other variable may refer to a class: 1.x would run it twice.
globals().update({smoke.__name__: smoke for smoke in test_classes(SmokeTest, __name__)})
