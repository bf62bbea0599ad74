"""``multipart/form-data`` (RFC 7578) with one file in it, which is handed on as it comes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from imageapi.http.errors import BodyTooLarge, InvalidParameter, NotMultipart, UnreadableRequest

FILE_FIELD = "file"
MAX_FIELD_BYTES = 4096
MAX_PARTS = 128
#: What the fields and what is between them may take beside the file.
MARGIN_BYTES = 1024 * 1024

Fields = dict[str, list[str]]


@dataclass(slots=True)
class _Part:
    """A part as far as it has come: a field's value, or the chunks of the file."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    name: str = ""
    value: bytearray = field(default_factory=bytearray)


class _Parts:
    """Turns the parser's callbacks into fields, and chunks of the file to be fetched."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: Fields = {}
        self.chunks: list[bytes] = []
        self.files = 0
        self.is_complete = False
        self._count = 0
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._end_all,
            },
        )

    def _begin(self) -> None:
        self._part = _Part()
        self._count += 1
        if self._count > MAX_PARTS:
            raise BodyTooLarge(f"The form has more than {MAX_PARTS} parts.")

    def _end_header(self) -> None:
        name, value = self._header
        self._part.headers.append((bytes(name).lower(), bytes(value)))
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        disposition = dict(self._part.headers).get(b"content-disposition", b"")
        self._part.name = _decode(parse_options_header(disposition)[1].get(b"name", b""))
        self.files += self._part.name == FILE_FIELD

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == FILE_FIELD:
            self.chunks.append(data[start:end])
            return
        self._part.value.extend(data[start:end])
        if len(self._part.value) > MAX_FIELD_BYTES:
            raise BodyTooLarge(f"A field of the form is longer than {MAX_FIELD_BYTES} bytes.")

    def _end(self) -> None:
        if self._part.name != FILE_FIELD:
            self.fields.setdefault(self._part.name, []).append(_decode(bytes(self._part.value)))

    def _end_all(self) -> None:
        self.is_complete = True


async def read_form(request: Request, receive_file: Callable[[bytes], Awaitable[None]]) -> Fields:
    """The form's fields, each with its values; chunks of the part ``file`` go where they are sent.

    Raises NotMultipart, Unreadable, BodyTooLarge, InvalidParameter where there is no file, and what
    ``receive_file`` raises.
    """
    boundary = _read_boundary(request)
    try:
        parts = _Parts(boundary)
        async for chunk in _read_body(request):
            parts.parser.write(chunk)
            if parts.files > 1:
                raise UnreadableRequest("The form has more than one file.")
            for piece in parts.chunks:
                await receive_file(piece)
            parts.chunks.clear()
    except FormParserError as error:
        raise UnreadableRequest("The body is not a form of the boundary that it names.") from error
    if not parts.is_complete:
        raise UnreadableRequest("The form ends before its end.")
    if not parts.files:
        raise InvalidParameter(f"/body/{FILE_FIELD}", "is missing")
    return parts.fields


def _read_boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise NotMultipart("The body must be multipart/form-data, with a boundary.")
    return boundary


async def _read_body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise UnreadableRequest("The client left before the end of the form.") from error


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UnreadableRequest("A field of the form is not UTF-8.") from error
