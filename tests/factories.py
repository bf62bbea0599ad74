"""What tests need many of: records, tokens, and where the project lies."""

import base64
import copy
import hmac
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
SAMPLE = PROJECT / "examples" / "untagged.json"
DOCUMENTED_BODY = SAMPLE.read_bytes()
DOCUMENTED_RECORD: dict[str, Any] = json.loads(DOCUMENTED_BODY)[0]
DOCUMENTED_ALBUM = "00324000005TXjIAAW"
SECRET = "a secret that only the tests know, long enough"

_FIRST = datetime(2020, 1, 1, tzinfo=UTC)


#: Tags that mean something to PostgreSQL, to JSON or to COPY.
ODD_TAGS = ('quo"ted', "back\\slash", "com,ma", "{brace}", "NULL", "Ünï 日本", "\\N", "'")


def record(album_id: str, number: int = 0, tags: tuple[str, ...] = (), **changes: Any) -> Any:
    """A record of the album, like the documented one; each ``number`` a minute younger."""
    result = copy.deepcopy(DOCUMENTED_RECORD)
    created_at = _FIRST + timedelta(minutes=number)
    result |= {
        "public_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{album_id}/{number}")),
        "album_id": album_id,
        "created_at": created_at.isoformat(timespec="milliseconds"),
        **changes,
    }
    result["infos"]["tags"] = [album_id, *tags]
    return result


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy of the value with what lies at the dotted path replaced."""
    result = copy.deepcopy(value)
    *parents, last = path.split(".")
    inner = result
    for parent in parents:
        inner = inner[parent]
    inner[last] = new
    return result


def part(value: Any) -> str:
    """A part of a token: JSON, or bytes as they are, in base64url."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, claims: Any, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token with any header and claims, signed by hand: no library has its say."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.digest(secret.encode(), text.encode(), digest))}"


def claims(album_id: str, *abilities: str, **changes: Any) -> dict[str, Any]:
    """What a good token says."""
    return {
        "exp": int(datetime.now(UTC).timestamp()) + 3600,
        "abilities": {album_id: {"Access": dict.fromkeys(abilities, True)}},
        "user_id": "20ab42f4-9308-4297-a5f0-c0c07d1d189b",
        **changes,
    }


HEADER = {"typ": "JWT", "alg": "HS256"}
