"""Which checks of django-health-check the site has.

Releases before 4 have a registry, `health_check.plugins.plugin_dir`; later ones name the checks in
each `HealthCheckView` of the URLconf, which the last releases of 3 know as well.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string
from django.views.debug import SafeExceptionReporterFilter

from smoketest.contrib.health_check.conf import conf

#: What an option may be to become a part of the test's name: nothing that could be an address.
_NAMING = re.compile(r"[\w./ -]{1,40}")


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check that the site has: its class, or the dotted path if it cannot be imported."""

    target: type | str
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Groups of the site that the check belongs to, and that become tags.
    groups: frozenset[str] = frozenset()
    #: Makes an instance that no run had before.
    make: Callable[[], Any]

    @property
    def class_name(self) -> str:
        """As the site writes it; late releases of 3 have given classes new names."""
        path = self.target if isinstance(self.target, str) else self.target.__qualname__
        return path.rpartition(".")[2]

    @property
    def name(self) -> str:
        """The class and the options that tell it from another of its class, without secrets."""
        shown = [
            str(value)
            for option, value in sorted(self.options.items())
            if self._is_shown(option) and _NAMING.fullmatch(str(value))
        ]
        return " ".join([self.class_name, *shown])

    @property
    def description(self) -> str:
        """The first paragraph of what the check's author wrote about it."""
        if isinstance(self.target, str):
            return self.class_name
        paragraph = " ".join((self.target.__doc__ or "").strip().partition("\n\n")[0].split())
        is_signature = paragraph.startswith(f"{self.target.__name__}(")  # put there by dataclasses
        return (
            self.class_name if is_signature or not paragraph else f"{self.class_name}: {paragraph}"
        )

    @property
    def timeout(self) -> float | None:
        """Seconds that the check gives itself, and one more in which it may say what it found."""
        own = self.options.get("timeout", getattr(self.target, "timeout", None))
        if isinstance(own, timedelta):
            own = own.total_seconds()
        is_number = isinstance(own, (int, float)) and not isinstance(own, bool)
        return own + 1 if is_number and own > 0 else None

    def _is_shown(self, option: str) -> bool:
        if SafeExceptionReporterFilter.hidden_settings.search(option):
            return False
        fields = getattr(self.target, "__dataclass_fields__", {})
        return option not in fields or bool(fields[option].repr)


def find_checks() -> list[Check]:
    """Those of the setting, or else all that the site has; each once, with all its groups."""
    if conf.checks is not None:
        return [_from_entry(entry) for entry in conf.checks]
    found: list[Check] = []
    for check in (*_of_registry(), *_of_views()):
        for index, known in enumerate(found):
            if (known.target, known.options) == (check.target, check.options):
                found[index] = replace(known, groups=known.groups | check.groups)
                break
        else:
            found.append(check)
    return found


def _of_registry() -> Iterator[Check]:
    """What apps of django-health-check 3 have registered; its subsets are the groups."""
    if find_spec("health_check.plugins") is None:
        return
    registry = import_module("health_check.plugins").plugin_dir._registry
    subsets = getattr(settings, "HEALTH_CHECK", {}).get("SUBSETS", {})
    for target, options in registry:
        check = _check(target, options)
        yield replace(check, groups=_groups_of(check, subsets))


def _groups_of(check: Check, subsets: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """The subsets name a check by what its instances say they are."""
    if not subsets:
        return frozenset()
    try:
        identifier = repr(check.make())
    except Exception:  # noqa: BLE001 - its test will tell
        return frozenset()
    return frozenset(name for name, members in subsets.items() if identifier in members)


def _of_views() -> Iterator[Check]:
    """What the views in the URLconf run; the names of their URLs are the groups."""
    view_base = getattr(import_module("health_check.views"), "HealthCheckView", None)
    if view_base is None:  # added late in release 3
        return
    for pattern in _patterns(get_resolver().url_patterns):
        view = getattr(pattern.callback, "view_class", None)
        if isinstance(view, type) and issubclass(view, view_base):
            groups = frozenset({pattern.name} if pattern.name else ())
            keywords = getattr(pattern.callback, "view_initkwargs", {})
            for check in _of_view(view, view_base, keywords):
                yield replace(check, groups=groups)


def _of_view(view: Any, view_base: Any, keywords: Mapping[str, Any]) -> Iterator[Check]:
    if getattr(view, "get_checks", None) is getattr(view_base, "get_checks", None):
        for entry in keywords.get("checks", view.checks):
            yield _from_entry(entry)
        return
    for number, instance in enumerate(view(**keywords).get_checks()):
        yield Check(target=type(instance), make=_nth(view, keywords, number))


def _nth(view: Any, keywords: Mapping[str, Any], number: int) -> Callable[[], Any]:
    """Asks the site's own method for its checks anew, and takes one of them."""
    return lambda: next(islice(view(**keywords).get_checks(), number, None))


def _patterns(patterns: Iterable[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern.url_patterns)
        else:
            yield pattern


def _from_entry(entry: Any) -> Check:
    target, options = entry if isinstance(entry, (list, tuple)) else (entry, {})
    return _check(target, options)


def _check(target: type | str, options: Mapping[str, Any]) -> Check:
    def make() -> Any:
        found = import_string(target) if isinstance(target, str) else target
        return found(**copy.deepcopy(options))

    try:
        known = import_string(target) if isinstance(target, str) else target
    except Exception:  # noqa: BLE001 - a module may raise anything, and the test will tell
        known = target
    return Check(target=known, options=dict(options), make=make)
