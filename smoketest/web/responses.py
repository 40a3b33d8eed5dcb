"""Status and headers that all responses with results share."""

from __future__ import annotations

import math
from typing import TypeVar

from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

from smoketest.coordination.coordinator import Answer
from smoketest.results import Report

R = TypeVar("R", bound=HttpResponseBase)


def status_of(report: Report) -> int:
    """Return the HTTP status of a report: 200 for PASS, 500 for FAIL."""
    return 200 if report.passed else 500


def finalize(response: R) -> R:
    """Set the headers that all responses with results share."""
    patch_vary_headers(response, ["Accept"])
    if response.status_code >= 500:
        # Keeps Django from logging an error, and from mailing the admins at each poll of a load
        # balancer. The logger "smoketest" logs the failures.
        response._has_been_logged = True  # type: ignore[attr-defined]
    return set_no_store(response)


def set_age(response: HttpResponse, answer: Answer) -> HttpResponse:
    response["Age"] = str(math.ceil(answer.age))  # rounded up, so that it is never too low
    return response


def set_no_store(response: R) -> R:
    # The per-site cache of older Django versions respects only "private".
    response["Cache-Control"] = "no-store, private"
    return response
