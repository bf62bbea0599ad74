// The listing with Fastify, pg and fast-jwt, as their documentation shows: one process, a pool of
// connections, a cache of verified tokens. `columns` builds the JSON from columns by Fastify's response
// schema; `texts` joins the texts that the service itself has stored.
"use strict";
const { Pool, types } = require("pg");
const { createVerifier } = require("fast-jwt");

const mode = process.argv[2];
const app = require("fastify")({ logger: false });
const pool = new Pool({ connectionString: process.env.BENCHMARK_DSN, max: 16 });
const verify = createVerifier({ key: process.env.IMAGEAPI_TOKEN_SECRET, algorithms: ["HS256"], cache: true });
types.setTypeParser(types.builtins.JSON, mode === "texts" ? (text) => text : JSON.parse);

const zone = new Intl.DateTimeFormat("sv-SE", {
	timeZone: process.env.IMAGEAPI_TIME_ZONE, dateStyle: "short", timeStyle: "medium", fractionalSecondDigits: undefined,
});
function formatLocalTime(moment) {
	const wall = zone.format(moment).replace(" ", "T");
	const minutes = Math.round((Date.parse(wall + "Z") - Math.floor(moment / 1000) * 1000) / 60000);
	const sign = minutes < 0 ? "-" : "+";
	const two = (number) => String(Math.floor(Math.abs(number))).padStart(2, "0");
	const fraction = String(moment.getMilliseconds()).padStart(3, "0");
	return `${wall}.${fraction}${sign}${two(minutes / 60)}:${two(minutes % 60)}`;
}

const number = { type: "number" };
const string = { type: "string" };
const integer = { type: "integer" };
const place = { type: "array", items: number, nullable: true };
const image = {
	type: "object",
	properties: {
		public_id: string,
		infos: {
			type: "object",
			properties: {
				bytes: integer, created_at: string, etag: string, format: string, height: integer, resource_type: string,
				tags: { type: "array", items: string }, type: string, width: integer,
				location: { type: "object", properties: { accuracy: number, latitude: number, longitude: number } },
			},
		},
		exifs: { type: "object", additionalProperties: true },
		gps: place, gps_ip: place, gps_exifs: place, gps_html: place,
		created_at: string, width: integer, height: integer, rotation: integer,
		crop_x: number, crop_y: number, crop_w: number, crop_h: number, album_id: string,
		thumbnails: { type: "object", properties: { full: string, large: string, mini: string } },
	},
};

const COLUMNS = {
	name: "columns",
	text: `SELECT public_id, infos, exifs, gps, gps_ip, gps_exifs, gps_html, created_at, width, height, rotation,
		crop_x, crop_y, crop_w, crop_h, album_id, thumbnails
		FROM naive_images WHERE album_id = $1 AND tags = '{}' ORDER BY created_at, public_id`,
};
const TEXTS = {
	name: "texts",
	text: `SELECT record FROM images WHERE album_id = $1 AND tags = '{}' AND deleted_at IS NULL
		ORDER BY created_at, public_id`,
};

function checkAllowed(request, reply) {
	const token = (request.headers.authorization || "").replace(/^Token token="/, "").replace(/"$/, "");
	let claims;
	try {
		claims = verify(token);
	} catch {
		reply.code(401).send({ detail: "Invalid token" });
		return false;
	}
	if (claims.abilities?.[request.params.album]?.Access?.image_list !== true) {
		reply.code(403).send({ detail: "Not allowed" });
		return false;
	}
	return true;
}

const path = "/api/v1/albums/:album/images/untag";
if (mode === "texts") {
	app.get(path, async (request, reply) => {
		if (!checkAllowed(request, reply)) return reply;
		const { rows } = await pool.query({ ...TEXTS, values: [request.params.album] });
		reply.type("application/json; charset=utf-8");
		return "[" + rows.map((row) => row.record).join(",") + "]";
	});
} else {
	app.get(path, { schema: { response: { 200: { type: "array", items: image } } } }, async (request, reply) => {
		if (!checkAllowed(request, reply)) return reply;
		const { rows } = await pool.query({ ...COLUMNS, values: [request.params.album] });
		for (const row of rows) row.created_at = formatLocalTime(row.created_at);
		return rows;
	});
}
app.listen({ host: "127.0.0.1", port: 0 }).then(() => {
	console.log(`fastify listens on http://127.0.0.1:${app.server.address().port}`);
});
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
