"""The service: films in, answers out, bounded in size, time and number; nothing is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect
from swagger_ui_bundle import swagger_ui_path

from clarity_cxr import __version__
from clarity_cxr.errors import ClarityError
from clarity_cxr.serve.answers import NOTICE, ServedModel, as_json, as_maps, as_overlay, as_report
from clarity_cxr.serve.films import Film, TooLarge, UnknownKind, decode, receive
from clarity_cxr.serve.limits import Limits
from clarity_cxr.serve.page import viewer_page
from clarity_cxr.serve.work import BoundedWork, Busy

_DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)
_FILM_BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one PNG, JPEG or DICOM file",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("application/octet-stream", "image/png", "image/jpeg", "application/dicom")
        },
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    408: {"description": "The upload took too long"},
    413: {"description": "The upload is larger than the service takes"},
    415: {"description": "Neither PNG nor JPEG nor DICOM"},
    422: {"description": "The film cannot be read, or the answer cannot be given for it"},
    503: {"description": "Too many requests at once; come back after Retry-After seconds"},
    504: {"description": "The prediction took too long"},
}


class Answer(StrEnum):
    """What is wanted: `json`, an `overlay` (PNG), `maps` (JSON with the film and all maps), a DICOM `report`."""

    JSON = "json"
    OVERLAY = "overlay"
    MAPS = "maps"
    REPORT = "report"


_ANSWERS: dict[Answer, tuple[Callable[[ServedModel, Film], Any], str]] = {
    Answer.JSON: (as_json, "application/json"),
    Answer.OVERLAY: (as_overlay, "image/png"),
    Answer.MAPS: (as_maps, "application/json"),
    Answer.REPORT: (as_report, "application/dicom"),
}


def create_app(model: ServedModel, limits: Limits) -> FastAPI:
    """The service around a model."""
    work = BoundedWork(limits.workers, limits.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        work.close()

    app = FastAPI(
        title="clarity-cxr", version=__version__, description=NOTICE, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.openapi_version = "3.0.3"  # the newest that the packaged page for it reads
    app.mount("/docs/assets", StaticFiles(directory=swagger_ui_path))
    _add_pages(app)

    @app.get("/health", summary="Is the service up, and with which model?")
    def health() -> dict[str, Any]:
        return {"status": "ok", "model": model.describe()}

    @app.post("/v1/predict", summary="What a film shows, and where", openapi_extra=_FILM_BODY, responses=_REFUSALS)
    async def predict(
        request: Request,
        answer: Annotated[
            Answer, Query(description="json, overlay (PNG), maps (JSON), report (DICOM SR)")
        ] = Answer.JSON,
    ) -> Response:
        answered, kind = _ANSWERS[answer]
        with _refusals(limits), work.place():
            announced = request.headers.get("content-length")
            upload = receive(request.stream(), announced, limits.megabytes << 20)
            try:
                data = await asyncio.wait_for(upload, limits.seconds)
            except TimeoutError:
                raise HTTPException(408, f"the upload took longer than {limits.seconds:g} s") from None
            declared = request.headers.get("content-type")
            content = await work.run(lambda: answered(model, decode(data, declared)), limits.seconds)
        return JSONResponse(content) if kind == "application/json" else Response(content, media_type=kind)

    return app


@contextmanager
def _refusals(limits: Limits) -> Iterator[None]:
    """Turn what can go wrong with a request into its status and one sentence."""
    try:
        yield
    except Busy:
        raise HTTPException(503, "too many films at once; try again", {"Retry-After": "1"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the upload broke off") from None
    except TooLarge:
        raise HTTPException(413, f"larger than {limits.megabytes} MB, expected one film") from None
    except UnknownKind:
        raise HTTPException(415, "neither PNG nor JPEG nor DICOM; send the bytes of one film as the body") from None
    except TimeoutError:
        raise HTTPException(504, f"the prediction took longer than {limits.seconds:g} s; try again") from None
    except ClarityError as error:
        raise HTTPException(422, str(error)) from None


def _add_pages(app: FastAPI) -> None:
    """The viewer at `/` and the documentation of the requests at `/docs`, with nothing from elsewhere."""
    page, policy = viewer_page()

    @app.get("/", include_in_schema=False)
    def viewer() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        html = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="clarity-cxr",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon-32x32.png",
        )
        html.headers["Content-Security-Policy"] = _DOCS_POLICY
        return html
