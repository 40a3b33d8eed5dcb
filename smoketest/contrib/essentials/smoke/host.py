"""Smoke tests of the host: file systems, memory and host names."""

from smoketest.case import tag
from smoketest.contrib import variants
from smoketest.contrib.essentials.disks import DiskTest
from smoketest.contrib.essentials.dns import HostNameTest
from smoketest.contrib.essentials.memory import MemoryLeft
from smoketest.contrib.essentials.targets import hosts, is_wanted, places

for _place in places():
    if is_wanted("disks", _place):
        variants.define(globals(), DiskTest, _place, place=_place)

if is_wanted("memory"):

    @tag("host")
    class MemoryTest(MemoryLeft):
        severity = "warning"
        timeout = 5

        def test_is_left(self) -> None:
            """Enough memory is available, on the host and in the container of the site."""
            self.check_memory()


for _host in hosts():
    if is_wanted("dns", _host):
        variants.define(globals(), HostNameTest, _host, host=_host)
