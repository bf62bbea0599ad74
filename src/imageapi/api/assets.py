"""Pictures: public, cacheable, their paths unguessable where they show something."""

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Request, Response

router = APIRouter(prefix="/assets", tags=["pictures"])

_BLANK = files("imageapi").joinpath("assets", "blank.jpg").read_bytes()
_BLANK_HEADERS = {
    "Cache-Control": "public, max-age=86400",
    "ETag": f'"{sha256(_BLANK).hexdigest()[:32]}"',
}


@router.get(
    "/blank.jpg",
    operation_id="getBlankPicture",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "Not modified"}},
)
async def get_blank_picture(request: Request) -> Response:
    """Stand in for a picture where there is none to show."""
    if request.headers.get("if-none-match") == _BLANK_HEADERS["ETag"]:
        return Response(status_code=304, headers=_BLANK_HEADERS)
    return Response(_BLANK, headers=_BLANK_HEADERS, media_type="image/jpeg")
