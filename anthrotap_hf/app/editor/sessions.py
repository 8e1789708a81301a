"""Who edits which clip: one open clip for each tab of a browser, in a visitor's folder as on the rest of the page."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anthrotap_hf.app.page import Page
from anthrotap_hf.app.uploads import FullError, Video, Visitor, take_video
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.errors import AnthroTapError

# Of a visitor of the editor, among all visitors of the page.
PREFIX = "edit-"
# The folder of the clip in a visitor's folder, and its name among the visitor's videos.
CLIP = "edit"
# Seconds between the moment that a tab says goodbye and the end of its clip: enough to load the page again.
GRACE = 90.0


class SessionError(AnthroTapError):
    """A request that an open clip can't answer; the text is a sentence for the visitor.

    Attributes:
        status: of the answer, as HTTP has it.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class EditSession:
    """A clip that is open in the editor.

    Attributes:
        token: who knows it may edit the clip.
        visitor: whose it is.
        video: the clip, read to its end.
        name: what the visitor calls the file.
        sha256: of the file.
        clip: names the clip in the addresses of its frames.
        tab: the tab that may change it; the one that opened or took it last.
        tracker: the name of the tracker that is used.
        points: as they were last sent, as JSON has them.
        tracks: of these points, once they are tracked (`EditedTracks`).
        change: how many changes were sent.
        busy: held while points are tracked.
        leaves_at: when its files are deleted if nobody asks for it again, by time.monotonic; None while it is in use.
    """

    token: str
    visitor: Visitor
    video: Video
    name: str
    sha256: str
    tracker: str
    clip: str = field(default_factory=lambda: uuid.uuid4().hex)
    tab: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    points: list[dict[str, Any]] = field(default_factory=list)
    tracks: Any = None
    change: int = 0
    busy: threading.Lock = field(default_factory=threading.Lock)
    leaves_at: float | None = None


class EditSessions:
    """All clips that are open in the editor, among the visitors of the page."""

    def __init__(self, page: Page, tracker: str) -> None:
        self.page = page
        self.tracker = tracker

    def open(self, upload: Path, name: str, visitor: Visitor) -> EditSession:
        """Read a clip and open it for a visitor of `let_in`.

        Raises:
            VideoError: it can't be used; the reason is a sentence for the visitor.
            JobError: the visitor has opened too many.
        """
        self.page.count_video(visitor)
        visitor.is_opening = True
        try:
            folder = visitor.empty_folder(CLIP)
            video = take_video(upload, folder, self.page.settings.limits, lambda *_: None, self.page.uploads)
        finally:
            visitor.is_opening = False
        visitor.videos[CLIP] = video
        token = visitor.name.removeprefix(PREFIX)
        session = EditSession(token, visitor, video, name, file_sha256(video.path), self.tracker)
        visitor.state[CLIP] = session
        return session

    def let_in(self, address: str) -> Visitor:
        """Return a new visitor, with a folder. Raises SessionError if there are too many."""
        self.sweep()
        try:
            visitor = self.page.visitors.get(PREFIX + secrets.token_urlsafe(24))
        except FullError as error:
            raise SessionError(str(error), 503) from error
        visitor.address = address
        return visitor

    def find(self, token: str, address: str) -> EditSession:
        """Return the open clip of a token. Raises SessionError if there is none any more."""
        self.sweep()
        visitor = self.page.visitors.find(PREFIX + token)
        session = visitor.state.get(CLIP)
        if not token or not isinstance(session, EditSession):
            raise SessionError("This clip is not open any more: open it again, and load your project.", 410)
        visitor.address = address
        session.leaves_at = None
        return session

    def find_for_change(self, token: str, tab: str, address: str) -> EditSession:
        """As `find`, for the tab that may change the clip. Raises SessionError if it is another one."""
        session = self.find(token, address)
        if not secrets.compare_digest(session.tab.encode(), tab.encode()):
            raise SessionError("This clip is open in another tab, which has the newer tracks.", 409)
        return session

    def take_over(self, token: str, address: str) -> EditSession:
        """Return the open clip of a token, for a tab that has it from now on; another one may not change it more."""
        session = self.find(token, address)
        session.tab = secrets.token_urlsafe(9)
        return session

    def say_goodbye(self, token: str, tab: str, address: str) -> None:
        """Let a clip end soon, as its tab is closed or loads the page again."""
        session = self.find_for_change(token, tab, address)
        session.leaves_at = time.monotonic() + GRACE
        timer = threading.Timer(GRACE + 1, self.sweep)
        timer.daemon = True
        timer.start()

    def sweep(self) -> None:
        """Delete the clips whose tabs have gone."""
        now = time.monotonic()
        for visitor in self.page.visitors.all():
            session = visitor.state.get(CLIP)
            if isinstance(session, EditSession) and session.leaves_at is not None and session.leaves_at < now:
                self.page.visitors.leave(visitor.name)
