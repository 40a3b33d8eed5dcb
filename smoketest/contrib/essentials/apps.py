"""App configuration of ``smoketest.contrib.essentials``."""

from time import monotonic

from smoketest.contrib.config import ContribConfig
from smoketest.contrib.essentials.checks import check_names
from smoketest.contrib.essentials.conf import EssentialsConf

#: Monotonic clock at which the process loaded its apps, in seconds.
STARTED_AT = monotonic()


class EssentialsConfig(ContribConfig):
    name = "smoketest.contrib.essentials"
    label = "smoketest_essentials"
    verbose_name = "Smoke tests: essentials"
    smoke_settings = EssentialsConf
    smoke_check = staticmethod(check_names)
