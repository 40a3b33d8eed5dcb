"""One class of smoke tests for each thing that a site has, such as each of its databases.

Classes run in parallel, and each test of them has its own time, result, series and alert: a thing
that hangs hides none of the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smoketest.case import SmokeTest


def define(
    module: dict[str, Any], base: type[SmokeTest], name: str, **attributes: Any
) -> type[SmokeTest]:
    """Define a subclass of `base` in a smoke module, as if it had been written there.

    `module` is the ``globals()`` of it. The class is called as the thing, in camel case, with the
    name of the base after it: ``"read-replica"`` and ``DatabaseTest`` make
    ``ReadReplicaDatabaseTest``. One that exists already gets a number.
    """
    wanted = class_name = _camel_case(name) + base.__name__
    number = 1
    while class_name in module:
        number += 1
        class_name = f"{wanted}{number}"
    namespace: Mapping[str, Any] = {
        "__module__": module["__name__"],
        "__doc__": base.__doc__,
        **attributes,
    }
    case: type[SmokeTest] = type(class_name, (base,), dict(namespace))
    module[class_name] = case
    return case


def _camel_case(name: str) -> str:
    """What of the name may stand in an identifier; one of digits alone still begins with none."""
    words = re.findall(r"[^\W_]+", name)
    joined = "".join(word[0].upper() + word[1:] for word in words)
    return joined if joined.isidentifier() else f"The{joined}"
