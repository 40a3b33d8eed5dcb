"""The suite as smoke tests, ours or those of 1.x: both have the same import."""

from bench_site.suites import test_classes
from smoketest import SmokeTest

# No variable may name a class: 1.x would run it once more.
globals().update({smoke.__name__: smoke for smoke in test_classes(SmokeTest, __name__)})
