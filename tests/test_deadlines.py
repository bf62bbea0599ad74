"""The deadlines of production, which most tests shorten."""

import pytest
from fastapi import FastAPI

from imageapi.database.deadlines import DatabaseDeadlines
from imageapi.deadlines import Deadlines
from imageapi.http.connection_limits import ConnectionDeadlines
from imageapi.http.server_protocol import DocumentedProtocol
from imageapi.server import APPLICATION, PROTOCOL
from imageapi.storage.deadlines import StoreDeadlines
from short_deadlines import A_TENTH

DATABASE = DatabaseDeadlines(
    connect_seconds=5, read_seconds=10, change_seconds=15, advisory_lock_seconds=90
)
STORE = StoreDeadlines(connect_seconds=3, response_seconds=10, write_seconds=30, retry_seconds=6)


def test_defaults_are_those_of_production() -> None:
    assert Deadlines() == Deadlines(DATABASE, STORE, body_seconds=10, rendition_seconds=60)
    assert ConnectionDeadlines() == ConnectionDeadlines(
        head_seconds=10, unread_seconds=30, linger_seconds=5, stopping_seconds=3
    )


@pytest.mark.inside
def test_service_has_the_defaults(app: FastAPI) -> None:
    assert app.state.resources.database.deadlines == DATABASE
    assert app.state.resources.backend.store._deadlines == STORE
    assert app.state.resources.renditions._seconds == 60
    assert app._body_seconds == 10  # type: ignore[attr-defined]  # ImageAPI's


def test_served_process_has_the_defaults() -> None:
    assert APPLICATION == "imageapi.app:from_environment"
    assert f"{DocumentedProtocol.__module__}:{DocumentedProtocol.__name__}" == PROTOCOL
    assert DocumentedProtocol.deadlines == ConnectionDeadlines()


def test_a_tenth_is_a_tenth() -> None:
    assert A_TENTH.database == DatabaseDeadlines(0.5, 1, 1.5, 9)
    assert A_TENTH.store == StoreDeadlines(0.3, 1, 3, 0.6)
    assert (A_TENTH.body_seconds, A_TENTH.rendition_seconds) == (1, 6)
