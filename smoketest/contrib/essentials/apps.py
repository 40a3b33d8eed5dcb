"""App configuration of ``smoketest.contrib.essentials``."""

from smoketest.contrib.config import ContribConfig
from smoketest.contrib.essentials.checks import check_names
from smoketest.contrib.essentials.conf import EssentialsConf


class EssentialsConfig(ContribConfig):
    name = "smoketest.contrib.essentials"
    label = "smoketest_essentials"
    verbose_name = "Smoke tests: essentials"
    smoke_settings = EssentialsConf
    smoke_check = staticmethod(check_names)
