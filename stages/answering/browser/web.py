"""The web application of a session: the page and its requests."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from stages.answering.answer import Answer, Text, what_is_wrong
from stages.answering.browser.guard import App, Guard
from stages.answering.browser.guide import Guide
from stages.answering.browser.masks import MOST_MASK_BYTES, MaskFiles
from stages.answering.browser.refused import Refused
from stages.answering.browser.session import Conflict, Session
from stages.answering.browser.thumbnails import thumbnail
from stages.answering.questions import TEXTS
from stages.runtime.errors import BadInput, StageFailed

PAGE = Path(__file__).parent / "page"
MIME = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PATIENCE = 25.0  # seconds after which a page that waits for the result repeats its request
POLL = 0.05  # seconds between checks for the result

Body = TypeVar("Body", bound="Asking")


class Asking(BaseModel):
    """Fields of all requests: the open page and its annotator."""

    model_config = ConfigDict(strict=True, extra="forbid")

    client: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")]
    annotator: Text = ""


class About(Asking):
    query: int | None = None


class Answering(Asking):
    """An answer, and the number of answers to its query that the page knew of."""

    revision: int
    answer: Answer


def application(session: Session, token: str, host: str, port: int) -> App:
    """The web application; all requests need the token."""
    files = {file.name: static(file) for file in sorted(PAGE.iterdir()) if file.suffix in MIME}
    pages = {"/": files.pop("page.html")} | {f"/{name}": page for name, page in files.items()}

    async def description(request: Request) -> Response:
        return JSONResponse(page_facts(session))

    async def image(request: Request) -> Response:
        name = session.questions.image(queried(request))
        picture = await run_in_threadpool(session.questions.picture, name)
        return Response(picture, media_type="image/png")

    async def upload(request: Request) -> Response:
        """Stores a file as the mask of a query; this does not answer the query yet."""
        masks, query = uploaded(request)
        if request.headers.get("content-type", "").lower() != "image/png":
            raise Refused(415, "Send a PNG file (image/png).")
        digest, shown = await run_in_threadpool(masks.take, query, await request.body())
        return JSONResponse({"mask": digest, "shown": shown})

    async def labels(request: Request) -> Response:
        """The values of a mask, a byte per pixel, row by row; see `MaskFiles.read_begun`."""
        masks, query = uploaded(request)
        digest = request.path_params["digest"]
        require_mask(masks, query, digest)
        mask = await run_in_threadpool(masks.read_begun, query, digest)
        return Response(mask.tobytes(), media_type="application/octet-stream")

    async def small(request: Request) -> Response:
        query, digest = queried(request), request.query_params.get("mask", "")
        if digest:
            require_mask(session.masks, query, digest)
        picture = await run_in_threadpool(thumbnail, session.questions, query, session.masks, digest)
        return Response(picture, media_type="image/jpeg")

    async def tile(request: Request) -> Response:
        """A part of the original file of an image; see `Originals.tile`."""
        place = [number(request, name) for name in ("level", "row", "column")]
        originals, image = session.extras.originals, session.questions.image(queried(request))
        found = None if originals is None or min(place) < 0 else await run_in_threadpool(originals.tile, image, *place)
        if found is None:
            raise Refused(404, "There is no such part of an original.")
        return Response(found, media_type="image/png")

    async def guidelines(request: Request) -> Response:
        return JSONResponse(known_guide().shown())

    async def illustration(request: Request) -> Response:
        found = await run_in_threadpool(known_guide().picture, number(request, "place"))
        if found is None:
            raise Refused(404, "The guidelines have no such picture.")
        return Response(found, media_type="image/jpeg")

    def known_guide() -> Guide:
        if session.extras.guide is None:
            raise Refused(404, "There are no guidelines.")
        return session.extras.guide

    def queried(request: Request) -> int:
        query = number(request, "query")
        if query not in session.position:
            raise Refused(404, "Unknown query.")
        return query

    def uploaded(request: Request) -> tuple[MaskFiles, int]:
        if session.masks is None:
            raise Refused(404, "These queries do not ask for masks.")
        return session.masks, queried(request)

    async def following(request: Request) -> Response:
        asking = await read_body(request, Asking)
        return await reply(session.ask, asking.client, asking.annotator)

    async def answer(request: Request) -> Response:
        body = await read_body(request, Answering)
        try:
            return await reply(session.answer, body.client, body.answer, body.revision)
        except Conflict as conflict:
            return await reply(session.ask, body.client, body.answer.annotator, str(conflict), status=409)

    async def undo(request: Request) -> Response:
        about = await read_body(request, About)
        return await reply(session.back, about.client, about.annotator, about.query)

    async def later(request: Request) -> Response:
        about = await read_body(request, About)
        return await reply(session.put_off, about.client, about.annotator, -1 if about.query is None else about.query)

    async def reopen(request: Request) -> Response:
        about = await read_body(request, About)
        return await reply(session.reopen, about.client, about.annotator, -1 if about.query is None else about.query)

    async def review(request: Request) -> Response:
        asking = await read_body(request, Asking)
        return await reply(session.review, asking.client, asking.annotator)

    async def leave(request: Request) -> Response:
        asking = await read_body(request, Asking)
        await run_in_threadpool(session.leave, asking.client)
        return Response(status_code=204)

    async def finish(request: Request) -> Response:
        asking = await read_body(request, Asking)
        await run_in_threadpool(session.finish)
        return await result(asking.client)

    async def end(request: Request) -> Response:
        return await result((await read_body(request, Asking)).client)

    async def result(client: str) -> Response:
        """Waits for the result; after `PATIENCE` seconds, responds that there is none yet."""
        deadline = time.monotonic() + PATIENCE
        while not (ended := session.ended.is_set()) and time.monotonic() < deadline:
            await asyncio.sleep(POLL)  # not in a thread: there may be more pages than threads
        if ended:
            session.leave(client)
        return JSONResponse({"state": "ended" if ended else "closing" if session.closed else "open",
                             "message": session.result})  # fmt: skip

    posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/next": following, "/answer": answer, "/undo": undo, "/later": later, "/leave": leave, "/finish": finish,
        "/end": end, "/mask/{query}": upload, "/reopen": reopen, "/review": review,
    }  # fmt: skip
    gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/session": description, "/image/{query}": image, "/mask/{query}/{digest}": labels,
        "/thumbnail/{query}": small, "/tile/{query}/{level}/{row}/{column}": tile,
        "/guide": guidelines, "/guide/{place}": illustration,
    }  # fmt: skip
    routes = [Route(path, page, methods=["GET"]) for path, page in pages.items()]
    routes += [Route(path, get, methods=["GET"]) for path, get in gets.items()]
    routes += [Route(path, post, methods=["POST"]) for path, post in posts.items()]
    web = Starlette(
        routes=routes,
        exception_handlers={Refused: refused, StageFailed: failed, BadInput: failed, HTTPException: plain_answer},  # type: ignore[dict-item]
    )
    return Guard(web, token, host, port, {} if session.masks is None else {"/mask/": MOST_MASK_BYTES})


def page_facts(session: Session) -> dict[str, Any]:
    """What the page needs to know at the start."""
    questions, settings = session.questions, session.settings
    classes = zip(questions.classes, questions.colours, session.keys, strict=True)
    painting = session.masks is not None
    return {
        "asked": TEXTS[questions.queries.answer],
        "sets": questions.of_sets,
        "painting": painting,
        "files": session.takes_files,
        "skips": settings.naming is not None,
        "void_named": painting or questions.queries.answer == "class-set",
        "editing": session.editing,
        "guide": session.extras.guide is not None,
        "most_seconds": settings.most_seconds,
        "round": questions.queries.round,
        "dataset": questions.data.attributes["name"],
        "annotator": settings.annotator,
        "classes": [{"name": name, "colour": colour, "key": key} for name, colour, key in classes],
        "keys": settings.commands(),
    }


def static(file: Path) -> Callable[[Request], Awaitable[Response]]:
    """Serves a file of the page, as it was when the server started."""
    content = file.read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, media_type=MIME[file.suffix])

    return page


def number(request: Request, name: str) -> int:
    """A number in the path; -1 if it is none."""
    text = request.path_params[name]
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1


def require_mask(masks: MaskFiles | None, query: int, digest: str) -> None:
    """Refused unless this mask was stored for the query."""
    if masks is None or not re.fullmatch(r"[0-9a-f]{64}", digest) or not masks.has(query, digest):
        raise Refused(404, "Unknown mask.")


async def read_body(request: Request, body: type[Body]) -> Body:
    """The request's JSON parsed as ``body``; Refused if it is invalid."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "Send JSON (application/json).")
    content = await request.body()
    try:
        return body.model_validate_json(content)
    except ValidationError as error:
        malformed = error.errors()[0]["type"] == "json_invalid"
        raise Refused(
            400 if malformed else 422, f"Invalid request ({what_is_wrong(error)}). Reload the page."
        ) from None


async def reply(do: Callable[..., dict[str, Any]], *arguments: Any, status: int = 200) -> Response:
    return JSONResponse(await run_in_threadpool(do, *arguments), status_code=status)


def refused(request: Request, error: Refused) -> Response:
    return JSONResponse({"message": error.sentence}, status_code=error.status)


def failed(request: Request, error: StageFailed | BadInput) -> Response:
    """Responds to faults of the server: a full disk, a damaged file."""
    return JSONResponse({"message": str(error)}, status_code=507 if isinstance(error, StageFailed) else 500)


def plain_answer(request: Request, error: HTTPException) -> Response:
    return PlainTextResponse(f"{error.detail}\n", status_code=error.status_code, headers=error.headers)
