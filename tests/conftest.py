"""Fixtures over the rigs. A missing real part fails in CI (environment variable CI), and skips elsewhere, saying so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.rigs.engine import Engine, why_no_engine
from tests.rigs.prefect import forget_runs
from tests.rigs.server import PrefectServer, prefect_venv
from tests.rigs.worker import Worker


def missing(sentence: str) -> NoReturn:
    """A real part is not on this machine."""
    if os.environ.get("CI"):
        pytest.fail(f"{sentence} In CI this is a failure.", pytrace=False)
    pytest.skip(sentence)


def _server(folder: Path, version: str, variable: str, venv_name: str, target: str) -> Iterator[PrefectServer]:
    venv = prefect_venv(variable, venv_name)
    if venv is None:
        missing(f"No Prefect {version} in .venvs/{venv_name} or {variable}; `{target}` installs it.")
    with PrefectServer(venv, folder) as server:
        yield server


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A real Prefect 3 server for the whole session."""
    folder = tmp_path_factory.mktemp("prefect")
    yield from _server(folder, "3.8.8", "RECONCILER_TEST_PREFECT", "prefect", "make setup")


OLD_SERVERS = {
    "2.20.25": ("RECONCILER_TEST_PREFECT_220", "prefect-2.20"),
    "3.0.11": ("RECONCILER_TEST_PREFECT_30", "prefect-3.0"),
}


@pytest.fixture(scope="session", params=OLD_SERVERS)
def old_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """Real older Prefect servers, one after the other."""
    folder = tmp_path_factory.mktemp(f"prefect-{request.param}")
    yield from _server(folder, request.param, *OLD_SERVERS[request.param], "make setup-old")


@pytest.fixture(scope="session")
def old_api_url(old_server: PrefectServer) -> str:
    """The API of an older server."""
    return old_server.api_url


@pytest.fixture(scope="session")
def prefect_api_url(prefect_server: PrefectServer) -> str:
    """Its API: "http://127.0.0.1:PORT/api"."""
    return prefect_server.api_url


@pytest.fixture
def empty_api_url(prefect_api_url: str) -> str:
    """The same API, without any flow run in it at the start of the test."""
    forget_runs(prefect_api_url)
    return prefect_api_url


def _engine() -> Iterator[Engine]:
    if reason := why_no_engine():
        missing(reason)
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def session_engine() -> Iterator[Engine]:
    yield from _engine()


@pytest.fixture(scope="session")
def second_session_engine() -> Iterator[Engine]:
    yield from _engine()


@pytest.fixture
def engine(session_engine: Engine) -> Iterator[Engine]:
    """A real private Docker engine: running and without containers at the start of each test."""
    yield session_engine
    session_engine.reset()


@pytest.fixture
def second_engine(second_session_engine: Engine) -> Iterator[Engine]:
    """Another host's engine."""
    yield second_session_engine
    second_session_engine.reset()


@pytest.fixture
def process_worker(prefect_server: PrefectServer, tmp_path: Path) -> Iterator[Worker]:
    """A real process worker on a work pool of its own; `process_worker.run()` gives a RUNNING flow run."""
    with Worker(prefect_server, tmp_path) as worker:
        yield worker


@pytest.fixture
def docker_worker(prefect_server: PrefectServer, engine: Engine, tmp_path: Path) -> Iterator[Worker]:
    """A real docker worker on `engine`; its flows run in real containers."""
    with Worker(prefect_server, tmp_path, engine=engine) as worker:
        yield worker
