"""What the OpenAPI document says of response headers.

Headers that every response has stand once, in the document's introduction: under each response
they would make an operation many screens tall. A response names only those that it has besides.
"""

from typing import Any

from imageapi.http.problem_types import REALM, RETRY_AFTER_SECONDS

#: The headers of every response.
HEADERS_OF_ALL = {
    "Cache-Control": "No answer may be kept, but for pictures, which bear a value of their own",
    "Pragma": "The same for HTTP/1.0; pictures have none",
    "Expires": "The same for HTTP/1.0; pictures have none",
    "X-Frame-Options": "The answer is not shown in a frame",
    "X-XSS-Protection": "For browsers that know it",
    "X-Content-Type-Options": "The answer is what its type says",
    "X-Download-Options": "For browsers that know it",
    "X-Permitted-Cross-Domain-Policies": "No other document grants access",
    "P3P": "For browsers that know it",
    "X-Request-Id": "The request's own id where it is one, else a new UUID; the log names it too",
    "X-Runtime": "Seconds that the request took",
}
#: The headers of most responses, whatever the operation.
HEADERS_OF_MOST = {
    "X-token": "The request's token, once it is verified",
    "Vary": "What else the answer depends on",
}
_HEADERS_OF_SOME = {
    "ETag": "The image's version: the value for `If-Match` and `If-None-Match`",
    "Link": "Where to go on, relative to the address that was asked (RFC 8288): of a list "
    '`rel="next"`, its next page; of an image `rel="enclosure"`, its original',
    "Location": "The image's address",
    "X-Total-Count": "How many there are in all, on pages",
    "Content-Range": "Which bytes of how many these are",
    "Accept-Ranges": "`bytes`, where ranges are understood",
    "WWW-Authenticate": "What the service wants to see",
    "Connection": "`close` where the rest of the request is not read",
    "Retry-After": "Seconds after which to try again",
    "Cross-Origin-Resource-Policy": "Pages of any origin may show the picture",
    "Timing-Allow-Origin": "Pages of any origin may measure how long the picture takes",
}
_EXAMPLES: dict[str, str | int] = {
    "ETag": '"3"',
    "Link": '</api/v1/albums/holiday/images/untag?limit=25&after=…>; rel="next"',
    "Location": "/api/v1/albums/holiday/images/078fafdc-f05a-44c4-94df-c04244c7cda4",
    "X-Total-Count": 412,
    "Content-Range": "bytes 0-1023/3604",
    "Accept-Ranges": "bytes",
    "WWW-Authenticate": REALM,
    "Connection": "close",
    "Retry-After": RETRY_AFTER_SECONDS,
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Timing-Allow-Origin": "*",
}
COMMON_HEADERS_TEXT = """\
Every response has these headers; they are not repeated below.

| header | meaning |
|---|---|
""" + "".join(
    f"| `{name}` | {meaning} |\n" for name, meaning in {**HEADERS_OF_ALL, **HEADERS_OF_MOST}.items()
)


def document_headers(*names: str) -> dict[str, Any]:
    """Return the headers of a response, for a route, beside those that every response has."""
    assert set(names) <= _HEADERS_OF_SOME.keys()
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def build_headers() -> dict[str, Any]:
    """Return the headers that `document_headers` refers to."""
    types = {int: "integer", str: "string"}
    return {
        name: {
            "description": meaning,
            "schema": {"type": types[type(_EXAMPLES[name])]},
            "example": _EXAMPLES[name],
        }
        for name, meaning in _HEADERS_OF_SOME.items()
    }
