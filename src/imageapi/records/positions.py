"""The bounds of a position on Earth, in degrees (WGS 84): north and east are positive.

It imports nothing, so that decoders can use it without loading the models.
"""

MAX_LATITUDE = 90
MAX_LONGITUDE = 180


def is_position(latitude: float, longitude: float) -> bool:
    """Return whether the two are a place on Earth. NaN and infinity are none."""
    return (
        -MAX_LATITUDE <= latitude <= MAX_LATITUDE and -MAX_LONGITUDE <= longitude <= MAX_LONGITUDE
    )
