"""Routes for the operator (health, readiness, metrics), and the page of the API's docs."""

from importlib.resources import files

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from imageapi import metrics
from imageapi.api.dependencies import ResourcesDep
from imageapi.api.openapi import problem_responses
from imageapi.api.responses import json_text_response
from imageapi.database.errors import DatabaseUnavailable, SchemaOutdated
from imageapi.database.migration import check_schema

router = APIRouter(tags=["operation"])

_DOCS_PARTS = "/docs/parts"


class Health(BaseModel):
    """How the service is."""

    status: str = Field(description="`ok`, or `ready`")


@router.get(
    "/healthz",
    operation_id="getHealth",
    response_model=Health,
    response_description="It is alive",
    responses=problem_responses(always_admitted=True),
)
async def get_health() -> Response:
    """Answer as long as the process does; asks nobody else."""
    return json_text_response('{"status":"ok"}')


@router.get(
    "/readyz",
    operation_id="getReadiness",
    response_model=Health,
    response_description="It is ready",
    responses=problem_responses(DatabaseUnavailable, SchemaOutdated, always_admitted=True),
)
async def get_readiness(resources: ResourcesDep) -> Response:
    """Answer 200 while the database answers and its schema is current, else 503.

    Requests that come at the same time share one check: none is refused, however many come.
    """
    await resources.readiness_checks.run("schema", lambda: check_schema(resources.database))
    return json_text_response('{"status":"ready"}')


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    response_description="The counts, in the text format of Prometheus",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problem_responses(always_admitted=True),
    },
)
async def get_metrics() -> Response:
    """Say what was counted since the start, by all workers, in Prometheus' text format."""
    return Response(metrics.format_metrics(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def lead_to_docs() -> Response:
    """Lead to the docs."""
    return RedirectResponse("/docs")


@router.get("/docs", include_in_schema=False)
async def show_docs() -> HTMLResponse:
    """Show the API to try out, without anything from elsewhere."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Image API",
        swagger_js_url=f"{_DOCS_PARTS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_DOCS_PARTS}/swagger-ui.css",
        swagger_favicon_url=f"{_DOCS_PARTS}/favicon.png",
    )


def mount_docs_parts(app: FastAPI) -> None:
    """Serve the scripts and styles of the docs page from the package that contains them."""
    parts = str(files("fastapi_offline").joinpath("static"))
    app.mount(_DOCS_PARTS, _WithoutRanges(StaticFiles(directory=parts)), name="docs-parts")


class _WithoutRanges:
    """ASGI middleware that removes the header ``Range``, which a server may ignore.

    StaticFiles would answer a malformed range in plain text instead of a problem response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await self.app({**scope, "headers": headers}, receive, send)
