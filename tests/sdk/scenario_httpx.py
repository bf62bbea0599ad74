"""The scenario of test_sdk.py through the client of openapi-python-client."""

import io
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from imageapi_client import AuthenticatedClient, models
from imageapi_client.api.albums import get_token
from imageapi_client.api.events import list_events
from imageapi_client.api.images import get_image, list_images, update_image, upload_image
from imageapi_client.api.queue import list_untagged_images
from imageapi_client.api.tags import list_tags, tag_image, tag_images
from imageapi_client.types import UNSET, File

ENVIRONMENT = os.environ
ALBUM = ENVIRONMENT["ALBUM"]
THOUSAND = ENVIRONMENT["THOUSAND"]
PICTURE = UUID("6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10")
RECORD = UUID(ENVIRONMENT["RECORD"])


def client(token: str) -> AuthenticatedClient:
    return AuthenticatedClient(ENVIRONMENT["HOST"], token, prefix="Token")


def problem(answer) -> dict:
    assert isinstance(answer.parsed, models.Problem)
    problem = answer.parsed
    return {"status": int(answer.status_code), "type": problem.type_, "detail": problem.detail}


said = {}
mine = client(ENVIRONMENT["TOKEN"])

photo = Path(ENVIRONMENT["PHOTO"]).read_bytes()
form = models.ImageUpload(
    file=File(io.BytesIO(photo), "photo.jpg"),
    public_id=PICTURE,
    latitude="38.71375",
    longitude="-9.139333",
)
image = upload_image.sync(ALBUM, client=mine, body=form)
said["uploaded"] = [
    image.infos.format_,
    image.width,
    image.height,
    image.infos.bytes_ == len(photo),
]
said["placed"] = [image.gps, image.gps_ip, image.infos.location is UNSET]
said["queue"] = [str(each.public_id) for each in list_untagged_images.sync(ALBUM, client=mine)]

tag_image.sync(ALBUM, PICTURE, "kitchen", client=mine)
tagged = tag_image.sync(ALBUM, PICTURE, "beach/sun ☀", client=mine)
said["tagged"] = tagged.infos.tags[1:]
many = models.TagChanges(public_ids=[PICTURE], add=["été"], remove=[])
changed = tag_images.sync(ALBUM, client=mine, body=many)
said["many"] = [changed.images, changed.version > 0]
left = list_untagged_images.sync(ALBUM, client=mine)
said["queue_after"] = [str(each.public_id) for each in left]
said["tags"] = {each.tag: each.images for each in list_tags.sync(ALBUM, client=mine)}

pages, seen, after, total = 0, [], UNSET, None
while pages == 0 or after:
    page = list_untagged_images.sync_detailed(THOUSAND, client=mine, limit=300, after=after)
    total = page.headers["X-Total-Count"]
    link = re.search(r"after=([^&>]+)", page.headers.get("Link", ""))
    after = link and link[1]
    seen += [each.public_id for each in page.parsed]
    pages += 1
said["pages"] = [pages, len(seen), len(set(seen)), total]


def count(album: str, **filters) -> int:
    return len(list_images.sync(album, client=mine, **filters))


first, last = datetime(2020, 1, 1, 0, 30, tzinfo=UTC), datetime(2020, 1, 1, 1, 0, tzinfo=UTC)
said["filtered"] = [
    count(ALBUM, tag=["kitchen", "beach/sun ☀"]),
    count(THOUSAND, created_after=first, created_before=last),
    count(ALBUM, bbox="-10,38,-9,39", untagged=False),
    count(ALBUM, format_="tiff"),
]


def change(if_match=UNSET, **changes):
    body = models.ImageChanges(**changes)
    return update_image.sync_detailed(ALBUM, PICTURE, client=mine, body=body, if_match=if_match)


quarter = models.ImageChangesRotation(90)
said["stale"] = problem(change('"1"', rotation=quarter))
said["turned"] = int(change(rotation=quarter).parsed.rotation)
moved = change(gps_html=[48.5, 2.25]).parsed
said["moved"] = [moved.gps_html, int(moved.rotation)]

stranger, reader = client("not.a.token"), client(ENVIRONMENT["READER"])
said["refused"] = problem(list_untagged_images.sync_detailed(ALBUM, client=stranger))
said["missing"] = problem(tag_image.sync_detailed(ALBUM, PICTURE, "no", client=reader))

events = list_events.sync(ALBUM, client=mine)
event = next(each for each in events if each.public_ids == [PICTURE])
after_it = event.after[str(PICTURE)]
rotation = None if after_it.rotation is UNSET else after_it.rotation
said["event"] = [event.kind, event.before[str(PICTURE)] is None, after_it.tags, rotation]
said["token"] = get_token.sync(client=mine).abilities[ALBUM].access["image_tag"]

said["record"] = get_image.sync(ALBUM, RECORD, client=mine).to_dict()
print(json.dumps(said))
