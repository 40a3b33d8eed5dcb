"""File storage that can be broken."""

from django.core.files.storage import FileSystemStorage
from django.utils._os import safe_join

from shop.switches import NOWHERE, is_broken


class BreakableStorage(FileSystemStorage):
    """Uses a path that cannot exist while the switch ``media`` is set."""

    def path(self, name: str) -> str:
        return safe_join(NOWHERE, name) if is_broken("media") else super().path(name)
