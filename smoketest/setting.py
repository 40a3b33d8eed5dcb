"""What a setting is: typed, checked and never cached, so that tests may override it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Generic, Self, TypeGuard, TypeVar, overload

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")
PREFIX = "SMOKETEST_"


class InvalidSettingError(ImproperlyConfigured):
    """A setting has a value that it may not have; the message names what is allowed."""

    def __init__(self, setting: Setting[Any], value: object) -> None:
        self.setting = setting
        shown = "wrong" if setting.is_secret else repr(value)
        super().__init__(f"{setting.name} is {shown}; it must be {setting.allowed}.")


class Setting(Generic[T]):
    """One setting, as a property of `Settings`.

    `check_id` is the stable number of the system check that complains of a wrong value.
    """

    name: str

    def __init__(
        self,
        check_id: str,
        default: T,
        allowed: str,
        is_valid: Callable[[Any], bool],
        *,
        is_secret: bool = False,
    ) -> None:
        self.check_id = check_id
        self.default = default
        self.allowed = allowed
        self.is_secret = is_secret
        self._is_valid = is_valid

    @overload
    def __get__(self, instance: None, owner: type[Settings]) -> Self: ...
    @overload
    def __get__(self, instance: Settings, owner: type[Settings]) -> T: ...
    def __get__(self, instance: Settings | None, owner: type[Settings]) -> Self | T:
        if instance is None:
            return self
        value: T = getattr(settings, self.name, self.default)
        if not self._is_valid(value):
            raise InvalidSettingError(self, value)
        return value


class Settings:
    """Settings of one app, which share a prefix; a wrong value raises `InvalidSettingError`."""

    prefix: ClassVar[str]
    #: By their names.
    settings: ClassVar[dict[str, Setting[Any]]]

    def __init_subclass__(cls, *, prefix: str = PREFIX) -> None:
        cls.prefix, cls.settings = prefix, {}
        for attribute, setting in vars(cls).items():
            if isinstance(setting, Setting):
                setting.name = prefix + attribute.upper()
                cls.settings[setting.name] = setting


def is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def is_strings(value: object) -> TypeGuard[Collection[str]]:
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(member, str) for member in value
    )


def seconds(check_id: str, default: float) -> Setting[float]:
    return Setting(
        check_id,
        default,
        "a number of seconds, more than 0",
        lambda value: is_number(value) and value > 0,
    )


def boolean(check_id: str, default: bool) -> Setting[bool]:
    return Setting(check_id, default, "True or False", lambda value: isinstance(value, bool))
