"""Finds the position of an IP address in a MaxMind database, which the operator provides."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import maxminddb

from imageapi.records.positions import is_position


class InvalidGeoipDatabase(Exception):
    """The file is no MaxMind database; ``str()`` continues a sentence after the setting's name."""


class GeoipDatabase:
    """Finds positions of IP addresses. Without a database it finds none."""

    def __init__(self, path: Path | None) -> None:
        """Open the database at the path, None for none. Raises InvalidGeoipDatabase."""
        try:
            self._reader = None if path is None else maxminddb.open_database(path)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            raise InvalidGeoipDatabase("is not a MaxMind database that can be read") from error

    def find(self, address: str | None) -> list[int | float] | None:
        """Return latitude and longitude in degrees, None for an address that is not found."""
        if self._reader is None or address is None:
            return None
        with suppress(ValueError, maxminddb.InvalidDatabaseError):
            return _read_position(self._reader.get(address))
        return None

    def close(self) -> None:
        """Close the database."""
        if self._reader is not None:
            self._reader.close()


def _read_position(entry: object) -> list[int | float] | None:
    """Return the position in an entry of the database, None if it has no valid one."""
    location = entry.get("location") if isinstance(entry, Mapping) else None
    if not isinstance(location, Mapping):
        return None
    latitude, longitude = location.get("latitude"), location.get("longitude")
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    return [latitude, longitude] if is_position(latitude, longitude) else None
