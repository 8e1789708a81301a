"""The addresses below /edit: the page's files, the frames of a clip, and what changes its tracks.

They are part of the application that Gradio serves, so its guards hold here too: of hosts and origins, and of uploads.
A clip is known by a token that cannot be guessed, which only its own page has; requests name no file of this machine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import shutil
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from anthrotap_hf.app.editor.documents import DOCUMENTS, render_document
from anthrotap_hf.app.editor.formats import describe_formats
from anthrotap_hf.app.editor.frames import FrameCache
from anthrotap_hf.app.editor.jobs import NEWEST, export_tracks, load_tracker, pack_tracks, track_points
from anthrotap_hf.app.editor.points import MAX_POINTS, as_json, make_project, points_inside, read_points, read_project
from anthrotap_hf.app.editor.sessions import EditSession, EditSessions, SessionError
from anthrotap_hf.app.guard import visitor_address
from anthrotap_hf.app.jobs import JobError
from anthrotap_hf.app.page import Page
from anthrotap_hf.app.released import default_tracker, describe_tracker, offered_trackers, trackers_of
from anthrotap_hf.app.samples import DANCERS, write_sample
from anthrotap_hf.app.uploads import Visitor, plain_name
from anthrotap_hf.export import FORMATS
from anthrotap_hf.pipelines.corrections import AROUND, CorrectionError, EditedPoint
from anthrotap_hf.pipelines.projects import project_to_json
from anthrotap_hf.utils.errors import AnthroTapError, format_error
from anthrotap_hf.video import VideoError

logger = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
# Bytes of a request that is no upload: thousands of points.
MAX_BODY = 4 << 20
SECURITY = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class EditorFiles(StaticFiles):
    """The files of the page: none of them runs code or asks for files of other hosts."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(SECURITY | {"cache-control": "no-cache"})
        return response


class Editor:
    """What is served below /edit.

    Args:
        page: the visitors, the worker and the settings.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.trackers = trackers_of(page.settings)
        self.sessions = EditSessions(page, default_tracker(page.settings))
        self.frames = FrameCache()

    def routes(self) -> list[BaseRoute]:
        """Return the routes, to be looked at before Gradio's own."""

        def post(path: str, handler: Callable[[Request], Any]) -> Route:
            return Route(f"/api/{path}", _polite(handler), methods=["POST"])

        inner: list[BaseRoute] = [
            Route("/api/about", _polite(self._about)),
            Route("/api/frames/{clip}/{t:int}", _polite(self._frame)),
            Route("/docs/{name}", _document),
            post("upload", self._upload),
            post("sample", self._sample),
            post("take", self._take),
            post("claim", self._claim),
            post("track", self._track),
            post("export", self._export),
            post("load", self._load),
            post("save", self._save),
            post("lasso", self._lasso),
            post("leave", self._leave),
            Mount("/", EditorFiles(directory=STATIC, html=True)),
        ]
        return [Route("/edit", lambda _: RedirectResponse("edit/")), Mount("/edit", routes=inner)]

    async def _about(self, request: Request) -> Response:
        """What the page offers, before any clip is open."""
        return JSONResponse(
            {
                "trackers": [{"name": name, "about": describe_tracker(name)} for name in self._offered()],
                "tracker": self.sessions.tracker,
                "maxPoints": MAX_POINTS,
                "limits": str(self.page.settings.limits),
                "formats": describe_formats(),
            }
        )

    def _offered(self) -> dict[str, str]:
        """Return the folders or names of all trackers, by what visitors call them."""
        return self.trackers | {name: name for _, name in offered_trackers(self.page.settings)}

    async def _upload(self, request: Request) -> Response:
        visitor = self.sessions.let_in(self._address(request))
        try:
            name = request.query_params.get("name", "video.mp4")[:200].replace("\\", "/").rpartition("/")[2]
            self._load_tracker(visitor)
            folder = visitor.empty_folder("upload")
            upload = folder / f"{plain_name(Path(name).stem)}.{plain_name(Path(name).suffix)[:8]}"
            limit, size = self.page.settings.limits.megabytes * 10**6, 0
            with upload.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise SessionError(
                            f"This video has more than {limit // 10**6} MB, the limit of this page.", 413
                        )
                    file.write(chunk)
            return await self._open(upload, name, visitor)
        except BaseException:
            self.page.visitors.leave(visitor.name)
            raise

    async def _sample(self, request: Request) -> Response:
        visitor = self.sessions.let_in(self._address(request))
        try:
            self._load_tracker(visitor)
            path = visitor.empty_folder("upload") / DANCERS
            await asyncio.to_thread(write_sample, path)
            return await self._open(path, path.name, visitor)
        except BaseException:
            self.page.visitors.leave(visitor.name)
            raise

    async def _open(self, upload: Path, name: str, visitor: Visitor) -> Response:
        session = await asyncio.to_thread(self.sessions.open, upload, name, visitor)
        self._get_ready(session)
        return JSONResponse(_describe(session))

    def _load_tracker(self, visitor: Visitor) -> None:
        """Have the tracker loaded while a clip is read."""
        name, device = self.sessions.tracker, self.page.settings.device
        args = load_tracker, name, self.trackers[name], device
        self._in_background(visitor, *args)

    def _in_background(self, visitor: Visitor, job: Callable[..., Any], *args: Any) -> None:
        """Run a job whose result is not needed; what fails is tried again, and said, when it is."""

        def work() -> None:
            with suppress(JobError):
                self._run_quietly(visitor, job, *args)

        threading.Thread(target=work, daemon=True).start()

    def _get_ready(self, session: EditSession) -> None:
        """Have the clip read by the worker before the first click."""
        newest = session.video.path.parent / NEWEST
        newest.write_text(str(session.change))
        model = session.tracker, self._offered()[session.tracker]
        none: list[EditedPoint] = []
        args = session.clip, session.video.path, model, none, None, session.change, self.page.settings.device
        self._in_background(session.visitor, track_points, *args)

    async def _take(self, request: Request) -> Response:
        """Open the clip of the page's tab for tracking, with its points: a copy, so both go on by themselves."""
        taken = self.page.visitors.find(str((await _read_json(request)).get("from")))
        video = taken.videos.get("track")
        if video is None:
            raise SessionError("That video is not open any more: open it here.", 410)
        visitor = self.sessions.let_in(self._address(request))
        try:
            upload = visitor.empty_folder("upload") / video.path.name
            await asyncio.to_thread(shutil.copyfile, video.path, upload)
            session = await asyncio.to_thread(self.sessions.open, upload, upload.name, visitor)
        except BaseException:
            self.page.visitors.leave(visitor.name)
            raise
        self._get_ready(session)
        points = [EditedPoint(number, (point,)) for number, point in enumerate(taken.points, 1)]
        session.points = as_json(points[:MAX_POINTS])
        return JSONResponse(_describe(session))

    async def _claim(self, request: Request) -> Response:
        """Give the clip to the tab that asks: one that loads the page again, or a second one."""
        session = self.sessions.take_over(request.headers.get("x-session", ""), self._address(request))
        return JSONResponse(_describe(session))

    async def _leave(self, request: Request) -> Response:
        content = await _read_json(request)
        self.sessions.say_goodbye(str(content.get("session")), str(content.get("tab")), self._address(request))
        return Response(status_code=204)

    async def _frame(self, request: Request) -> Response:
        """A picture of a frame: small, or with ?full=1 at the clip's size."""
        session = self.sessions.find(request.headers.get("x-session", ""), self._address(request))
        t = request.path_params["t"]
        if request.path_params["clip"] != session.clip or t >= session.video.frames:
            raise SessionError("There is no such frame.", 404)
        headers = {"cache-control": "private, max-age=3600, immutable", "vary": "x-session"}
        if request.query_params.get("full"):
            data = await asyncio.to_thread(self.frames.picture, session.video, t)
            return Response(data, media_type="image/jpeg", headers=headers)
        return FileResponse(session.video.previews[t], media_type="image/jpeg", headers=headers)

    async def _track(self, request: Request) -> Response:
        """Track the points that are sent; the answer is a stream of messages, as `_message` packs them."""
        session = self._for_change(request)
        content = await _read_json(request)
        points = read_points(content.get("points"), session)
        name = str(content.get("tracker") or session.tracker)
        offered = self._offered()
        if name not in offered:
            raise SessionError("Choose a tracker.")
        around = content.get("around")
        around = around if isinstance(around, int) and 0 <= around < session.video.frames else 0
        session.tracker, session.points, session.tracks = name, as_json(points), None
        args = session.clip, session.video.path, (name, offered[name]), points
        session.change += 1
        change, device = session.change, self.page.settings.device
        # The worker looks there, so that what is out of date ends.
        (session.video.path.parent / NEWEST).write_text(str(change))

        def work(progress: Callable[..., object], put: Callable[[bytes], object]) -> None:
            # A short clip is near the shown frame as a whole.
            looks = [around, None] if session.video.frames > 2 * AROUND + 1 else [None]
            self.page.count_edit(session.visitor)
            for look in looks:
                tracks = self.page.run_edit(session.visitor, progress, track_points, *args, look, change, device)
                head = {"ids": tracks.ids, "frames": session.video.frames, "partial": look is not None}
                put(_message("t", head, pack_tracks(tracks)))
            if session.change == change:
                session.tracks = tracks

        return StreamingResponse(self._stream(session, work), media_type="application/octet-stream")

    async def _load(self, request: Request) -> Response:
        """Read a project file; the answer is its points."""
        session = self._for_change(request)
        return JSONResponse({"points": as_json(read_project(await _read_json(request), session))})

    async def _lasso(self, request: Request) -> Response:
        """Return the points of a grid that lie inside a lasso."""
        session = self._for_change(request)
        return JSONResponse({"points": points_inside(await _read_json(request), session)})

    async def _save(self, request: Request) -> Response:
        """Write a project file of the points that are sent."""
        session = self._for_change(request)
        points = read_points((await _read_json(request)).get("points"), session)
        text = json.dumps(project_to_json(make_project(points, session)), indent=1)
        return _download(text.encode(), f"{plain_name(Path(session.name).stem)}.project.json")

    async def _export(self, request: Request) -> Response:
        session = self._for_change(request)
        content = await _read_json(request)
        format = content.get("format")
        if format not in FORMATS:
            raise SessionError("There is no such format.")
        if session.tracks is None or not len(session.tracks.ids):
            raise SessionError("There is no track to export yet: click on the picture.")
        video, folder = session.video, session.visitor.folder / f"export-{uuid.uuid4().hex}"
        folder.mkdir()
        stem = plain_name(Path(session.name).stem)
        size = video.height, video.width
        given = {point["id"]: point.get("name") for point in session.points}
        names = [given.get(number) or f"point {number}" for number in session.tracks.ids]
        args = video.path, stem, video.fps, size, session.tracks, names, format, folder
        self.page.count_edit(session.visitor)
        path = await asyncio.to_thread(self._run_quietly, session.visitor, export_tracks, *args)
        return FileResponse(path, filename=path.name, media_type="application/octet-stream")

    def _stream(self, session: EditSession, work: Callable[..., None]) -> Iterator[bytes]:
        """Yield the messages of a job while it runs in a thread."""
        messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

        def progress(value: Any, desc: str = "", unit: str = "") -> None:
            done, total = value if isinstance(value, tuple) else (0, None)
            messages.put(_message("p", {"what": desc, "done": done, "total": total}))

        def run() -> None:
            try:
                with session.busy:
                    work(progress, messages.put)
            except JobError as error:
                is_wrong = isinstance(error.__cause__, CorrectionError)
                messages.put(_message("e", {"error": error.reason, "isWrong": is_wrong}))
            finally:
                self.page.stop_waiting(session.visitor.name)
                messages.put(None)

        if waiting := self.page.wait(session.visitor):
            yield _message("p", {"what": waiting, "done": 0, "total": None})
        threading.Thread(target=run, daemon=True).start()
        while (message := messages.get()) is not None:
            yield message

    def _run_quietly(self, visitor: Visitor, job: Callable[..., Any], *args: Any) -> Any:
        return self.page.run_edit(visitor, lambda *_, **__: None, job, *args)

    def _for_change(self, request: Request) -> EditSession:
        headers = request.headers
        token, tab = headers.get("x-session", ""), headers.get("x-tab", "")
        return self.sessions.find_for_change(token, tab, self._address(request))

    def _address(self, request: Request) -> str:
        peer = request.client.host if request.client else "unknown"
        return visitor_address(peer, request.headers.getlist("x-forwarded-for"), self.page.settings.is_space)


def _document(request: Request) -> Response:
    """A page of the documentation that comes with the package."""
    name = request.path_params["name"]
    if name not in DOCUMENTS:
        return Response("There is no such page.", 404, media_type="text/plain")
    return Response(render_document(name), media_type="text/html", headers=SECURITY)


def _describe(session: EditSession) -> dict[str, Any]:
    video = session.video
    return {
        "session": session.token,
        "tab": session.tab,
        "clip": session.clip,
        "name": session.name,
        "width": video.width,
        "height": video.height,
        "frames": video.frames,
        "fps": video.fps,
        "preview": video.preview_size,
        "damage": video.damage,
        "tracker": session.tracker,
        "points": session.points,
    }


def _download(data: bytes, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type="application/octet-stream", headers=headers)


def _message(kind: str, head: dict[str, Any], data: bytes = b"") -> bytes:
    """Pack a message: its kind, the lengths of its parts (uint32), JSON, and bytes."""
    text = json.dumps(head).encode()
    return kind.encode() + struct.pack("<II", len(text), len(data)) + text + data


async def _read_json(request: Request) -> dict[str, Any]:
    """Return the object that a request holds. Raises SessionError if it holds none, or is too long."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise SessionError("That is too much at once for this page.", 413)
        parts.append(chunk)
    try:
        content = json.loads(b"".join(parts))
    except (ValueError, RecursionError) as error:
        raise SessionError("This is no project: it is not in JSON.") from error
    if not isinstance(content, dict):
        raise SessionError("This is no project.")
    return content


def _polite(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """Let a handler's errors be answered in a sentence."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except SessionError as error:
            return JSONResponse({"error": error.reason}, error.status)
        except VideoError as error:
            return JSONResponse({"error": format_error(error.reason, hint=error.hint)}, 400)
        except CorrectionError as error:
            return JSONResponse({"error": format_error(error.reason, hint=error.hint)}, 422)
        except AnthroTapError as error:
            return JSONResponse({"error": format_error(error.reason, hint=error.hint)}, 400)

    return answer
