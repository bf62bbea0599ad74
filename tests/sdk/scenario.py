"""The scenario of test_sdk.py through the client of openapi-generator's `python`."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import imageapi_client as sdk
from imageapi_client.exceptions import ApiException

ENVIRONMENT = os.environ
ALBUM = ENVIRONMENT["ALBUM"]
THOUSAND = ENVIRONMENT["THOUSAND"]
PICTURE = UUID("6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10")
RECORD = UUID(ENVIRONMENT["RECORD"])


def client(token: str) -> sdk.ApiClient:
    return sdk.ApiClient(sdk.Configuration(host=ENVIRONMENT["HOST"], access_token=token))


def refused(call) -> dict:
    try:
        call()
    except ApiException as error:
        problem = sdk.Problem.from_json(error.body)
        return {"status": error.status, "type": problem.type, "detail": problem.detail}
    raise AssertionError("it was not refused")


said = {}
mine = client(ENVIRONMENT["TOKEN"])
queue, images, tags = sdk.QueueApi(mine), sdk.ImagesApi(mine), sdk.TagsApi(mine)

photo = Path(ENVIRONMENT["PHOTO"]).read_bytes()
image = images.upload_image(
    ALBUM, ("photo.jpg", photo), public_id=PICTURE, latitude="38.71375", longitude="-9.139333"
)
said["uploaded"] = [image.infos.format, image.width, image.height, image.infos.bytes == len(photo)]
said["placed"] = [image.gps, image.gps_ip, image.infos.location is None]
said["queue"] = [str(each.public_id) for each in queue.list_untagged_images(ALBUM)]

tags.tag_image(ALBUM, PICTURE, "kitchen")
said["tagged"] = tags.tag_image(ALBUM, PICTURE, "beach/sun ☀").infos.tags[1:]
changed = tags.tag_images(ALBUM, sdk.TagChanges(public_ids=[PICTURE], add=["été"], remove=[]))
said["many"] = [changed.images, changed.version > 0]
said["queue_after"] = [str(each.public_id) for each in queue.list_untagged_images(ALBUM)]
said["tags"] = {each.tag: each.images for each in tags.list_tags(ALBUM)}

pages, seen, after, total = 0, [], None, None
while pages == 0 or after:
    page = queue.list_untagged_images_with_http_info(THOUSAND, limit=300, after=after)
    total = page.headers["X-Total-Count"]
    link = re.search(r"after=([^&>]+)", page.headers.get("Link", ""))
    after = link and link[1]
    seen += [each.public_id for each in page.data]
    pages += 1
said["pages"] = [pages, len(seen), len(set(seen)), total]

first, last = datetime(2020, 1, 1, 0, 30, tzinfo=UTC), datetime(2020, 1, 1, 1, 0, tzinfo=UTC)
said["filtered"] = [
    len(images.list_images(ALBUM, tag=["kitchen", "beach/sun ☀"])),
    len(images.list_images(THOUSAND, created_after=first, created_before=last)),
    len(images.list_images(ALBUM, bbox="-10,38,-9,39", untagged=False)),
    len(images.list_images(ALBUM, format="tiff")),
]

said["stale"] = refused(
    lambda: images.update_image(ALBUM, PICTURE, sdk.ImageChanges(rotation=90), if_match='"1"')
)
said["turned"] = images.update_image(ALBUM, PICTURE, sdk.ImageChanges(rotation=90)).rotation
moved = images.update_image(ALBUM, PICTURE, sdk.ImageChanges(gps_html=[48.5, 2.25]))
said["moved"] = [moved.gps_html, moved.rotation]

stranger, reader = client("not.a.token"), client(ENVIRONMENT["READER"])
said["refused"] = refused(lambda: sdk.QueueApi(stranger).list_untagged_images(ALBUM))
said["missing"] = refused(lambda: sdk.TagsApi(reader).tag_image(ALBUM, PICTURE, "no"))

event = next(
    each for each in sdk.EventsApi(mine).list_events(ALBUM) if each.public_ids == [PICTURE]
)
after_it = event.after[str(PICTURE)]
said["event"] = [event.kind, event.before[str(PICTURE)] is None, after_it.tags, after_it.rotation]
said["token"] = sdk.AlbumsApi(mine).get_token().abilities[ALBUM].access["image_tag"]

said["record"] = json.loads(images.get_image(ALBUM, RECORD).to_json())
print(json.dumps(said))
