"""Test class for a host name."""

from __future__ import annotations

import socket
from typing import ClassVar

from smoketest.case import SmokeTest, tag
from smoketest.contrib.essentials import targets
from smoketest.contrib.essentials.explain import failing


@tag("dns")
class HostNameTest(SmokeTest):
    host: ClassVar[str]
    databases = ()
    timeout = 5
    slow_after = 1

    def test_resolves(self) -> None:
        """The host name of a server that the site uses resolves."""
        origins = ", ".join(targets.hosts().get(self.host, ()))
        advice = (
            f"It is set in {origins}. Check /etc/resolv.conf, and try: getent hosts {self.host}"
        )
        with failing(f"{self.host} does not resolve", advice):
            addresses = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        self.assertTrue(addresses, f"{self.host} has no address. {advice}")
