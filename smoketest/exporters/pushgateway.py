"""Exporter that pushes the metrics to a Pushgateway, for hosts that cannot be scraped.

https://prometheus.io/docs/practices/pushing/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from urllib.error import HTTPError

from prometheus_client import CollectorRegistry, delete_from_gateway, push_to_gateway
from prometheus_client.exposition import basic_auth_handler, default_handler
from prometheus_client.registry import Collector

from smoketest.exporters import ExportError

#: Timeout of a push, in seconds.
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of metrics on a Pushgateway, which a push replaces."""

    #: URL of the Pushgateway.
    url: str
    job: str
    #: Labels that identify the group, besides the job.
    grouping_key: Mapping[str, str]
    username: str = ""
    password: str = field(default="", repr=False)


def push(group: Group, collector: Collector) -> None:
    """Replace all metrics of the group. Raise `ExportError`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    _send(partial(push_to_gateway, registry=registry), group)


def delete(group: Group) -> None:
    """Delete all metrics of the group. Raise `ExportError`."""
    _send(delete_from_gateway, group)


def _send(send: Callable[..., None], group: Group) -> None:
    handler: Callable[..., Callable[[], None]] = default_handler
    if group.username:
        handler = partial(basic_auth_handler, username=group.username, password=group.password)
    where = _without_secrets(group.url)
    if "@" in group.url.partition("?")[0]:
        msg = (
            f"The URL of the Pushgateway at {where} contains credentials. Pass the user as"
            " --pushgateway-user, and the password in the environment variable"
            " SMOKETEST_PUSHGATEWAY_PASSWORD."
        )
        raise ExportError(msg)
    try:
        send(
            group.url,
            job=group.job,
            grouping_key=dict(group.grouping_key),
            timeout=TIMEOUT,
            handler=handler,
        )
    except HTTPError as error:
        with error:
            body = error.read(500).decode(errors="replace").strip()
        msg = f"The Pushgateway at {where} returned {error.code}: {body or error.reason}."
        raise ExportError(msg) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        msg = f"The Pushgateway at {where} cannot be reached: {reason}. Check the URL."
        raise ExportError(msg) from error


def _without_secrets(url: str) -> str:
    """Return the URL without user, query and fragment, even if it cannot be parsed."""
    scheme, separator, rest = url.rpartition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
