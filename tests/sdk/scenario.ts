// The scenario of test_sdk.py through the client of openapi-generator's `typescript-fetch`.

import { openAsBlob } from "node:fs";

import {
  AlbumsApi,
  Configuration,
  EventsApi,
  ImagesApi,
  ImageToJSON,
  ProblemFromJSON,
  QueueApi,
  ResponseError,
  TagsApi,
} from "./client/src/index";

const { HOST = "", TOKEN = "", READER = "", ALBUM = "", THOUSAND = "", PHOTO = "", RECORD = "" } =
  process.env;
const PICTURE = "6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10";

const client = (token: string) =>
  new Configuration({ basePath: HOST, apiKey: `Token token="${token}"` });

async function refused(call: Promise<unknown>) {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof ResponseError)) throw error;
    const { type, detail } = ProblemFromJSON(await error.response.json());
    return { status: error.response.status, type, detail };
  }
  throw new Error("it was not refused");
}

async function main() {
  const said: Record<string, unknown> = {};
  const mine = client(TOKEN);
  const queue = new QueueApi(mine);
  const images = new ImagesApi(mine);
  const tags = new TagsApi(mine);
  const ofPicture = { albumId: ALBUM, publicId: PICTURE };
  const file = await openAsBlob(PHOTO);

  const image = await images.uploadImage({
    albumId: ALBUM,
    file,
    publicId: PICTURE,
    latitude: "38.71375",
    longitude: "-9.139333",
  });
  const { format, bytes, location } = image.infos;
  said.uploaded = [format, image.width, image.height, bytes === file.size];
  said.placed = [image.gps, image.gps_ip, location === undefined];
  const ids = async () =>
    (await queue.listUntaggedImages({ albumId: ALBUM })).map((each) => each.public_id);
  said.queue = await ids();

  await tags.tagImage({ ...ofPicture, tag: "kitchen" });
  said.tagged = (await tags.tagImage({ ...ofPicture, tag: "beach/sun ☀" })).infos.tags.slice(1);
  const tagChanges = { public_ids: [PICTURE], add: ["été"], remove: [] };
  const changed = await tags.tagImages({ albumId: ALBUM, tagChanges });
  said.many = [changed.images, changed.version > 0];
  said.queue_after = await ids();
  const counts = await tags.listTags({ albumId: ALBUM });
  said.tags = Object.fromEntries(counts.map((each) => [each.tag, each.images]));

  const seen: string[] = [];
  let pages = 0;
  let after: string | undefined;
  let total: string | null = null;
  do {
    const page = await queue.listUntaggedImagesRaw({ albumId: THOUSAND, limit: 300, after });
    total = page.raw.headers.get("X-Total-Count");
    after = /after=([^&>]+)/.exec(page.raw.headers.get("Link") ?? "")?.[1];
    seen.push(...(await page.value()).map((each) => each.public_id));
    pages += 1;
  } while (after !== undefined);
  said.pages = [pages, seen.length, new Set(seen).size, total];

  const between = {
    createdAfter: new Date("2020-01-01T00:30:00Z"),
    createdBefore: new Date("2020-01-01T01:00:00Z"),
  };
  const filters = [
    { albumId: ALBUM, tag: ["kitchen", "beach/sun ☀"] },
    { albumId: THOUSAND, ...between },
    { albumId: ALBUM, bbox: "-10,38,-9,39", untagged: false },
    { albumId: ALBUM, format: "tiff" },
  ];
  said.filtered = await Promise.all(
    filters.map(async (filter) => (await images.listImages(filter)).length),
  );

  const quarter = { ...ofPicture, imageChanges: { rotation: 90 as const } };
  said.stale = await refused(images.updateImage({ ...quarter, ifMatch: '"1"' }));
  said.turned = (await images.updateImage(quarter)).rotation;
  const place = { ...ofPicture, imageChanges: { gps_html: [48.5, 2.25] } };
  const moved = await images.updateImage(place);
  said.moved = [moved.gps_html, moved.rotation];

  const stranger = new QueueApi(client("not.a.token"));
  said.refused = await refused(stranger.listUntaggedImages({ albumId: ALBUM }));
  const reader = new TagsApi(client(READER));
  said.missing = await refused(reader.tagImage({ ...ofPicture, tag: "no" }));

  const events = await new EventsApi(mine).listEvents({ albumId: ALBUM });
  const event = events.find((each) => each.public_ids.join() === PICTURE);
  const state = event?.after[PICTURE];
  said.event = [event?.kind, event?.before[PICTURE] === null, state?.tags, state?.rotation ?? null];
  const token = await new AlbumsApi(mine).getToken();
  said.token = token.abilities[ALBUM]?.Access["image_tag"];

  said.record = ImageToJSON(await images.getImage({ albumId: ALBUM, publicId: RECORD }));
  console.log(JSON.stringify(said));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
