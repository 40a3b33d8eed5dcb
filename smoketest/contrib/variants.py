"""Define one class of smoke tests for each target, such as each database of the site.

Classes run in parallel, and each test has its own timeout, result, time series and alert, so a
target that hangs does not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smoketest.case import SmokeTest


def define(
    module: dict[str, Any], base: type[SmokeTest], name: str, **attributes: Any
) -> type[SmokeTest]:
    """Define a subclass of `base` in a smoke module and return it.

    `module` is the ``globals()`` of the smoke module. The class name is `name` in camel case,
    followed by the name of the base class: ``"read-replica"`` and ``DatabaseTest`` become
    ``ReadReplicaDatabaseTest``. A number is appended to a name that is already in use.
    """
    stem = class_name = _camel_case(name) + base.__name__
    number = 1
    while class_name in module:
        number += 1
        class_name = f"{stem}{number}"
    namespace: Mapping[str, Any] = {
        "__module__": module["__name__"],
        "__doc__": base.__doc__,
        **attributes,
    }
    case: type[SmokeTest] = type(class_name, (base,), dict(namespace))
    module[class_name] = case
    return case


def _camel_case(name: str) -> str:
    """Return the name as an identifier, prefixed with "The" if it starts with a digit."""
    words = re.findall(r"[^\W_]+", name)
    joined = "".join(word[0].upper() + word[1:] for word in words)
    return joined if joined.isidentifier() else f"The{joined}"
