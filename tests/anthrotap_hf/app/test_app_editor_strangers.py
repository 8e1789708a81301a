"""The editor and strangers: what it answers to others, malformed requests, jobs in their order, what is left behind."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs anthrotap[app]")

from anthrotap_hf.app.editor import sessions
from anthrotap_hf.app.editor.frames import FrameCache
from anthrotap_hf.app.jobs import JobCancelledError, JobError
from anthrotap_hf.app.page import AppSettings, Page
from anthrotap_hf.app.uploads import Limits, Uploads, Visitor, take_video


class Client:
    """Asks the editor's addresses as a program would."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.headers: dict[str, str] = {}

    def ask(self, path: str, content: object = None, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        data = json.dumps(content).encode() if content is not None else data
        url = f"{self.address}/edit/api/{path}"
        request = urllib.request.Request(
            url, data, self.headers | headers, method="POST" if data is not None else "GET"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def open(self, video: Path, name: str = "a.mp4") -> dict:
        status, answer = self.ask(f"upload?name={name}", data=video.read_bytes())
        assert status == 200, answer
        clip = json.loads(answer)
        self.headers = {"x-session": clip["session"], "x-tab": clip["tab"]}
        return clip


@pytest.fixture
def client(served) -> Client:
    return Client(served[0])


def test_strangers_get_sentences_and_no_files(client, served, waves, tmp_path):
    assert client.ask("sample", {}, Origin="http://evil.example")[0] == 403
    assert client.ask("about", Host="evil.example")[0] == 403
    assert client.ask("track", {"points": []})[0] == 410
    assert client.ask("take", {"from": "../.."}) == (410, b'{"error":"That video is not open any more: open it here."}')
    clip = client.open(waves, "..%2F..%2Fetc%2Fpasswd.mp4")
    assert clip["name"] == "passwd.mp4"
    assert str(served[1]) not in json.dumps(clip)
    frame = f"frames/{clip['clip']}"
    assert client.ask(f"{frame}/0")[1][:2] == b"\xff\xd8"
    for path in (f"{frame}/12", "frames/other/0", f"{frame}/..%2f..%2f..%2fetc%2fpasswd", f"{frame}/-1"):
        assert client.ask(path)[0] == 404, path
    # The clip of another session is not shown.
    assert client.ask(f"{frame}/0", **{"x-session": "guessed"})[0] == 410
    assert client.ask("track", {"points": []}, **{"x-tab": "another"})[0] == 409
    point = {"id": 1, "queries": [[0, 5, 5]]}
    for points, sentence in [
        ([point] * 5000, "5,000 points are too many: 400 are the most that this page edits."),
        ([point, point], "two points have the id 1"),
        ([{"id": 1, "queries": [[0, 5, 500]]}], "outside the video"),
        ([{"id": 1, "queries": [[0, 5, 5], [0, 6, 5]]}], "two places in frame 0"),
        ([{"id": 1, "queries": [[0, 1e999, 5]]}], "outside the video"),
        ([{"id": 1e999, "queries": []}], "inf is no whole number"),
        ([{"id": 1, "queries": [["/etc/passwd", 0, 0]]}], "not a project as it should be"),
        ("../../etc/passwd", "not a project as it should be"),
        ([point | {"name": "n" * 100}], "at most 60 characters"),
    ]:
        for path in ("track", "save"):
            status, answer = client.ask(path, {"points": points})
            assert status in (400, 422), answer
            assert sentence in json.loads(answer)["error"]
            assert "\n" not in json.loads(answer)["error"]
    assert "no project" in json.loads(client.ask("load", data=b"[" * 100_000)[1])["error"]
    assert "no project" in json.loads(client.ask("load", {"format": "another"})[1])["error"]
    assert client.ask("load", data=b"x" * 5_000_000)[0] == 413
    assert b"no such format" in client.ask("export", {"format": "../csv"})[1]
    assert b"no track to export yet" in client.ask("export", {"format": "csv"})[1]
    assert client.ask("track", {"points": [point], "tracker": "/etc"}) == (400, b'{"error":"Choose a tracker."}')
    square = [[10, 10], [60, 10], [60, 60], [10, 60]]
    status, answer = client.ask("lasso", {"lasso": square, "t": 3, "size": 2})
    assert json.loads(answer)["points"][0][0] == 3
    for lasso, t, size in [
        ("/etc/passwd", 0, 3), ([[1, 2]], 0, 3), ([[0, 1e999]] * 3, 0, 3), (square, 12, 3), (square, "a", 3),
        (square, 0, 999), ([[-50, -50], [-40, -50], [-40, -40]], 0, 3), (square, 0, [1]),
    ]:  # fmt: skip
        status, answer = client.ask("lasso", {"lasso": lasso, "t": t, "size": size})
        assert status == 400, (lasso, answer)
        assert "\n" not in json.loads(answer)["error"]
    text = tmp_path / "text.mp4"
    text.write_text("This is no video.\n" * 100)
    status, answer = client.ask("upload?name=text.mp4", data=text.read_bytes())
    assert status == 400
    assert json.loads(answer)["error"].startswith("This video can't be used: not a video")
    assert "Traceback" not in (served[1] / "log.txt").read_text()


def test_what_is_left_of_a_clip_goes_when_its_tab_has_gone(tmp_path, waves, monkeypatch, wait_until):
    page = Page(AppSettings(limits=Limits(jobs=2)), tmp_path / "visitors")
    editor = sessions.EditSessions(page, "locotrack-tiny")

    def opened(name: str) -> sessions.EditSession:
        (tmp_path / name).write_bytes(waves.read_bytes())
        return editor.open(tmp_path / name, name, editor.let_in("192.0.2.1"))

    first, second = opened("a.mp4"), opened("b.mp4")
    with pytest.raises(JobError, match="This page takes 2 videos an hour"):
        opened("c.mp4")
    monkeypatch.setattr(sessions, "GRACE", -1.0)
    editor.say_goodbye(first.token, first.tab, "192.0.2.1")
    editor.find(second.token, "192.0.2.1")
    wait_until(lambda: not first.visitor.folder.exists())
    assert second.visitor.folder.exists()
    with pytest.raises(sessions.SessionError, match="not open any more"):
        editor.find(first.token, "192.0.2.1")


def test_pictures_at_full_size_are_kept_in_bounded_memory(tmp_path, make_video):
    upload = make_video("large.mp4", shots=[14], size=(560, 1000))
    (tmp_path / "tab").mkdir()
    video = take_video(upload, tmp_path / "tab", Limits(), lambda *_: None, Uploads())
    assert video.preview_size == (960, 538)
    cache = FrameCache(max_bytes=250_000)
    for t in (0, 13, 5, 12):
        picture = cv2.imdecode(np.frombuffer(cache.picture(video, t), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (560, 1000, 3)
        small = cv2.resize(picture, video.preview_size, interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - video.preview(t)[..., ::-1]).mean() < 3
        assert cache.num_bytes <= 250_000


def test_jobs_of_one_visitor_wait_for_each_other(tmp_path):
    page = Page(AppSettings(), tmp_path)
    visitor = Visitor("a", tmp_path / "a")
    quiet = lambda *_, **__: None  # noqa: E731
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(page.run_edit, visitor, quiet, time.sleep, 0.2)]
        while page._running is None:
            time.sleep(0.01)
        jobs += [pool.submit(page.run_edit, visitor, quiet, time.time) for _ in range(3)]
        # None is taken for another one, and so canceled.
        assert all(isinstance(job.result(30), float) for job in jobs[1:])
    page.worker.cancel()


def test_one_job_at_a_time_the_editor_s_among_the_others(tmp_path):
    page = Page(AppSettings(), tmp_path)
    quiet = lambda *_, **__: None  # noqa: E731
    visitors = [Visitor(name, tmp_path / name) for name in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(page.run, visitors[0], quiet, time.sleep, 1.0)
        while page._running != ["a"]:
            time.sleep(0.01)
        others = []
        for number, visitor in enumerate(visitors[1:], 1):
            others.append(pool.submit(page.run_edit, visitor, quiet, time.time))
            while len(page._turns) < number:
                time.sleep(0.01)
        page.cancel_job("c")  # waits, and has had enough
        with pytest.raises(JobCancelledError):
            others[1].result(20)
        assert not first.done()
        first.result(30)
        assert others[0].result(20) < others[2].result(20)
    page.worker.cancel()
