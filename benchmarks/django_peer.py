"""The listing with Django REST framework: a model, a serializer, a view, under gunicorn.

It runs in its own environment (requirements/bench.txt) and returns the same JSON.
"""

import os
import sys
from datetime import UTC
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import django
from django.conf import settings

_DSN = urlsplit(os.environ["BENCHMARK_DSN"])
_HOST = parse_qs(_DSN.query).get("host", [_DSN.hostname])[0]

settings.configure(
    SECRET_KEY=os.environ["IMAGEAPI_TOKEN_SECRET"],
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    TIME_ZONE=os.environ["IMAGEAPI_TIME_ZONE"],
    INSTALLED_APPS=["rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _DSN.path.lstrip("/"),
            "USER": _DSN.username or parse_qs(_DSN.query).get("user", [None])[0],
            "PASSWORD": _DSN.password,
            "HOST": _HOST,
            "CONN_MAX_AGE": None,
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
        "UNICODE_JSON": True,
    },
)
django.setup()

import jwt  # noqa: E402
from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import exceptions, generics, permissions, serializers  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402

_ZONE = ZoneInfo(os.environ["IMAGEAPI_TIME_ZONE"])


class Image(models.Model):  # noqa: DJ008 - never shown
    """An image; each of its keys is a column."""

    public_id = models.UUIDField(primary_key=True)
    album_id = models.TextField()
    tags = ArrayField(models.TextField())
    created_at = models.DateTimeField()
    infos = models.JSONField()
    exifs = models.JSONField()
    gps = models.JSONField(null=True)
    gps_ip = models.JSONField(null=True)
    gps_exifs = models.JSONField(null=True)
    gps_html = models.JSONField(null=True)
    width = models.IntegerField()
    height = models.IntegerField()
    rotation = models.IntegerField()
    crop_x = models.FloatField()
    crop_y = models.FloatField()
    crop_w = models.FloatField()
    crop_h = models.FloatField()
    thumbnails = models.JSONField()

    class Meta:
        """The table is created elsewhere (benchmarks.albums)."""

        app_label = "peer"
        managed = False
        db_table = "naive_images"


class ImageSerializer(serializers.ModelSerializer):
    """An image as clients see it."""

    created_at = serializers.SerializerMethodField()

    class Meta:
        """The fields in the documented order."""

        model = Image
        fields = (
            *("public_id", "infos", "exifs", "gps", "gps_ip", "gps_exifs", "gps_html"),
            *("created_at", "width", "height", "rotation", "crop_x", "crop_y", "crop_w", "crop_h"),
            *("album_id", "thumbnails"),
        )

    def get_created_at(self, image: Image) -> str:
        """Return the time in milliseconds, with the offset of the time zone."""
        moment = image.created_at.replace(tzinfo=image.created_at.tzinfo or UTC)
        return moment.astimezone(_ZONE).isoformat(timespec="milliseconds")


class TokenAuthentication(BaseAuthentication):
    """Authentication by the request's token."""

    def authenticate(self, request: Any) -> tuple[None, Any]:
        """Return no user, and the claims of the token."""
        token = request.headers.get("Authorization", "")
        token = token.removeprefix('Token token="').removesuffix('"')
        try:
            return None, jwt.decode(token, settings.SECRET_KEY, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise exceptions.AuthenticationFailed from error


class MayList(permissions.BasePermission):
    """The permission to list the album."""

    def has_permission(self, request: Any, view: Any) -> bool:
        """Whether the token grants it."""
        access = request.auth.get("abilities", {}).get(view.kwargs["album_id"], {})
        return access.get("Access", {}).get("image_list") is True


class UntaggedList(generics.ListAPIView):
    """The images without a tag, oldest first."""

    authentication_classes = (TokenAuthentication,)
    permission_classes = (MayList,)
    serializer_class = ImageSerializer

    def get_queryset(self) -> Any:
        """Return the images of the album."""
        images = Image.objects.filter(album_id=self.kwargs["album_id"], tags=[])
        return images.order_by("created_at", "public_id")


urlpatterns = [path("api/v1/albums/<str:album_id>/images/untag", UntaggedList.as_view())]
application = get_wsgi_application()


def main() -> None:
    """Serve on a free port with one process and 16 threads, as gunicorn's documentation shows."""
    from gunicorn.app.base import BaseApplication  # noqa: PLC0415

    class Server(BaseApplication):
        def load_config(self) -> None:
            self.cfg.set("bind", ["127.0.0.1:0"])
            self.cfg.set("worker_class", "gthread")
            self.cfg.set("threads", 16)
            self.cfg.set("keepalive", 75)
            self.cfg.set("when_ready", _print_address)

        def load(self) -> Any:
            return application

    sys.argv = sys.argv[:1]
    Server().run()


def _print_address(server: Any) -> None:
    port = server.LISTENERS[0].sock.getsockname()[1]
    print(f"django listens on http://127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    main()
