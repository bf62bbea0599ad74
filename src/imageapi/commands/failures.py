"""The message and the exit status of a command that fails."""

from imageapi.albums.geoip import InvalidGeoipDatabase
from imageapi.auth.errors import InvalidSecret
from imageapi.database.errors import DatabaseError
from imageapi.embedded_postgres.client import DataDirectoryError
from imageapi.imaging.errors import DecodersBusy
from imageapi.logging import locate_error
from imageapi.server import NotServing
from imageapi.settings import InvalidSetting
from imageapi.storage.errors import InvalidStore, StoreError
from imageapi.transfer.record_import import ImportRefused

#: Errors about a setting, and the beginning of the message for each. The exit status is 2.
_SETTING_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (InvalidSecret, "IMAGEAPI_TOKEN_SECRET is "),
    (InvalidStore, "IMAGEAPI_STORE_URL "),
    (InvalidGeoipDatabase, "IMAGEAPI_GEOIP_DATABASE "),
    (InvalidSetting, ""),
)
#: Errors whose ``str()`` is the message. The exit status is 1.
_EXPECTED = (ImportRefused, NotServing, DataDirectoryError, DatabaseError, StoreError, DecodersBusy)


def explain(error: Exception) -> tuple[str, int]:
    """Return one line that says what went wrong, and the exit status.

    An unexpected error is named by its class and place only: its message may quote secrets or
    records.
    """
    for error_type, beginning in _SETTING_ERRORS:
        if isinstance(error, error_type):
            return f"{beginning}{error}", 2
    if isinstance(error, _EXPECTED):
        return str(error), 1
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror}", 1
    return f"unexpected {type(error).__name__} at {locate_error(error)}", 1
