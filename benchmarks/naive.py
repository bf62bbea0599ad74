"""The listing as most people would write it: ORM entities, through Pydantic, on every request.

It returns the same JSON for the same request. It does not do what the service does besides: the
documented headers, compression, request ids, a log line per request, stricter checks of the token.
It has an index for its query and a database connection for each client. So the measured ratio is
biased in its favour.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from jose import JWTError, jwt
from pydantic import BaseModel, ConfigDict, field_serializer
from sqlalchemy import DateTime, Index, Text, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TIME_ZONE = ZoneInfo("Europe/Paris")
CONNECTIONS = 16


class Base(DeclarativeBase):
    """The declarative base."""


class NaiveImage(Base):
    """An image; each of its keys is a column."""

    __tablename__ = "naive_images"
    __table_args__ = (
        Index("ix_naive_images_album_id_created_at", "album_id", "created_at", "public_id"),
    )

    public_id: Mapped[UUID] = mapped_column(primary_key=True)
    album_id: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    infos: Mapped[dict[str, Any]] = mapped_column(JSONB)
    exifs: Mapped[dict[str, Any]] = mapped_column(JSONB)
    gps: Mapped[list[float] | None] = mapped_column(JSONB)
    gps_ip: Mapped[list[float] | None] = mapped_column(JSONB)
    gps_exifs: Mapped[list[float] | None] = mapped_column(JSONB)
    gps_html: Mapped[list[float] | None] = mapped_column(JSONB)
    width: Mapped[int]
    height: Mapped[int]
    rotation: Mapped[int]
    crop_x: Mapped[float]
    crop_y: Mapped[float]
    crop_w: Mapped[float]
    crop_h: Mapped[float]
    thumbnails: Mapped[dict[str, str]] = mapped_column(JSONB)


class LocationOut(BaseModel):
    """The position that the browser sent."""

    accuracy: int | float
    latitude: float
    longitude: float


class InfosOut(BaseModel):
    """Properties of the original."""

    bytes: int
    created_at: datetime
    etag: str
    format: str
    height: int
    resource_type: str
    tags: list[str]
    type: str
    width: int
    location: LocationOut


class ThumbnailsOut(BaseModel):
    """Paths of the renditions."""

    full: str
    large: str
    mini: str


class ImageOut(BaseModel):
    """An image as clients see it."""

    model_config = ConfigDict(from_attributes=True)

    public_id: UUID
    infos: InfosOut
    exifs: dict[str, Any]
    gps: list[float] | None
    gps_ip: list[float] | None
    gps_exifs: list[float] | None
    gps_html: list[float] | None
    created_at: datetime
    width: int
    height: int
    rotation: int
    crop_x: float
    crop_y: float
    crop_w: float
    crop_h: float
    album_id: str
    thumbnails: ThumbnailsOut

    @field_serializer("created_at")
    def _format_time(self, moment: datetime) -> str:
        return moment.astimezone(TIME_ZONE).isoformat(timespec="milliseconds")


def build_sqlalchemy_url(dsn: str) -> str:
    """Return PostgreSQL's URL in the form that SQLAlchemy needs."""
    return dsn.replace("postgresql://", "postgresql+asyncpg://", 1)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # By default the pool has 5 connections, and opens and closes up to 10 more as needed.
    engine = create_async_engine(
        build_sqlalchemy_url(os.environ["IMAGEAPI_DATABASE_URL"]),
        pool_size=CONNECTIONS,
        max_overflow=0,
    )
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.secret = os.environ["IMAGEAPI_TOKEN_SECRET"]
    yield
    await engine.dispose()


app = FastAPI(lifespan=_lifespan)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Open a session for the request."""
    async with request.app.state.sessions() as session:
        yield session


async def get_claims(request: Request, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Return the claims of the request's token. Raise HTTPException."""
    token = authorization.removeprefix('Token token="').removesuffix('"')
    try:
        return jwt.decode(token, request.app.state.secret, algorithms=["HS256"])
    except JWTError as error:
        raise HTTPException(401, "Invalid token") from error


async def require_image_list(
    album_id: str, claims: Annotated[dict[str, Any], Depends(get_claims)]
) -> str:
    """Return the album's id if the token allows listing it. Raise HTTPException."""
    access = claims.get("abilities", {}).get(album_id, {}).get("Access", {})
    if access.get("image_list") is not True:
        raise HTTPException(403, "Not allowed")
    return album_id


@app.get("/api/v1/albums/{album_id}/images/untag", response_model=list[ImageOut])
async def list_untagged(
    album_id: Annotated[str, Depends(require_image_list)],
    session: Annotated[AsyncSession, Depends(get_session)],
) -> Any:
    """List the images without a tag, oldest first."""
    result = await session.scalars(
        select(NaiveImage)
        .where(NaiveImage.album_id == album_id, NaiveImage.tags == [])
        .order_by(NaiveImage.created_at, NaiveImage.public_id)
    )
    return result.all()


def serve() -> None:
    """Serve on a free port, as the service does: one worker, uvloop, httptools, no access log."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"naive listens on http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        # The default is 5 s. 128 lists of 500 images take as long, so that uvicorn would close
        # connections on which a request is coming in.
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    serve()
