"""``multipart/form-data`` (RFC 7578) with one file, whose content is passed on as it arrives."""

from collections.abc import AsyncIterator, Awaitable, Callable

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from imageapi.http.errors import BodyTooLarge, InvalidParameter, NotMultipart, UnreadableRequest

FILE_FIELD = "file"
MAX_FIELD_BYTES = 4096
MAX_PARTS = 128
#: What the fields and everything between them may take beside the file.
MARGIN_BYTES = 1024 * 1024

#: Of one part.
_MAX_HEADERS = 8
_MAX_NAME_CHARACTERS = 64
_MAX_HEADER_BYTES = 4096 + 128
#: So much is read in search of the first part, its headers included.
_MAX_PREAMBLE_BYTES = 64 * 1024
#: Decodes any bytes, and loses none: file names are not read, so they need not be UTF-8.
_HEADER_CHARSET = "latin-1"

_NO_FORM = "The body is not a form of the boundary that it names."

Fields = dict[str, list[str]]


class _Form:
    """Collects the fields of a form, and passes on the content of its file."""

    def __init__(self, receive_file: Callable[[bytes], Awaitable[None]]) -> None:
        self.fields: Fields = {}
        self.part_count = 0
        self.has_file = False
        self.is_file_empty = True
        self._receive_file = receive_file
        self._name = ""
        self._value = bytearray()

    async def receive(self, event: MultipartSegment | bytes | None) -> None:
        """Take an event of the parser: a part begins, some of its content, the part ends.

        Raises BodyTooLarge, UnreadableRequest, InvalidParameter for a file in another field, and
        what ``receive_file`` raises.
        """
        match event:
            case MultipartSegment():
                self._begin_part(event)
            case bytes():
                await self._add_content(event)
            case None:
                self._end_part()

    def _begin_part(self, segment: MultipartSegment) -> None:
        self.part_count += 1
        if self.part_count > MAX_PARTS:
            raise BodyTooLarge(f"The form has more than {MAX_PARTS} parts.")
        self._name = _decode((segment.name or "").encode(_HEADER_CHARSET))
        self._value.clear()
        if segment.filename and self._name != FILE_FIELD:
            raise InvalidParameter(
                f"/body/{self._name[:_MAX_NAME_CHARACTERS]}",
                f"has a file; the picture must be in the form's field {FILE_FIELD}",
            )
        if self._name == FILE_FIELD:
            if self.has_file:
                raise UnreadableRequest("The form has more than one file.")
            self.has_file = True

    async def _add_content(self, content: bytes) -> None:
        if self._name == FILE_FIELD:
            self.is_file_empty = self.is_file_empty and not content
            await self._receive_file(content)
            return
        self._value += content
        if len(self._value) > MAX_FIELD_BYTES:
            raise BodyTooLarge(f"A field of the form is longer than {MAX_FIELD_BYTES} bytes.")

    def _end_part(self) -> None:
        if self._name != FILE_FIELD:
            self.fields.setdefault(self._name, []).append(_decode(bytes(self._value)))


async def read_form(request: Request, receive_file: Callable[[bytes], Awaitable[None]]) -> Fields:
    """Return the form's fields, each with its values; pass the content of ``file`` on in chunks.

    Raises NotMultipart, UnreadableRequest, BodyTooLarge, InvalidParameter where there is no file,
    an empty one, or one in another field, and what ``receive_file`` raises.
    """
    parser = PushMultipartParser(
        _read_boundary(request),
        max_header_size=_MAX_HEADER_BYTES,
        max_header_count=_MAX_HEADERS,
        header_charset=_HEADER_CHARSET,
    )
    form = _Form(receive_file)
    received_bytes = 0
    async for chunk in _read_body(request):
        try:
            for event in parser.parse(chunk):
                await form.receive(event)
        except MultipartError as error:
            raise UnreadableRequest(_NO_FORM) from error
        received_bytes += len(chunk)
        if not form.part_count and received_bytes > _MAX_PREAMBLE_BYTES:
            raise UnreadableRequest(_NO_FORM)
    try:
        parser.close()
    except MultipartError as error:
        has_begun = form.part_count or not received_bytes
        raise UnreadableRequest(
            "The form ends before its end." if has_begun else _NO_FORM
        ) from error
    if not form.has_file:
        raise InvalidParameter(f"/body/{FILE_FIELD}", "is required: the picture is sent in it")
    if form.is_file_empty:
        raise InvalidParameter(f"/body/{FILE_FIELD}", "is empty")
    return form.fields


def _read_boundary(request: Request) -> str:
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    boundary: str = options.get("boundary", "")
    if media_type != "multipart/form-data" or not boundary:
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
