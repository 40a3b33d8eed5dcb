"""Fixtures with a shared and an in-memory results store."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoketest.store import MemoryStore, ResultsStore, SharedStore
from smoketest.store.directory import StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path, file_mode=0o600)


@pytest.fixture
def shared(folder: StateFolder) -> SharedStore:
    return SharedStore(folder)


@pytest.fixture(params=[SharedStore, MemoryStore])
def store(request: pytest.FixtureRequest, shared: SharedStore) -> ResultsStore:
    return shared if request.param is SharedStore else MemoryStore()
