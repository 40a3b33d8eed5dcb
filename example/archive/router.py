"""Database router: only models of the app ``archive`` use the database ``archive``."""

from typing import Any

from django.db.models import Model

ARCHIVE = "archive"


class ArchiveRouter:
    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        return ARCHIVE if model._meta.app_label == ARCHIVE else None

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        return self.db_for_read(model)

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool:
        return (db == ARCHIVE) == (app_label == ARCHIVE)
