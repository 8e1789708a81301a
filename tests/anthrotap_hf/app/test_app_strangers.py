"""The page and strangers: other sites, other names, malformed calls, files of killed pages."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs anthrotap[app]")

from gradio import Request

from anthrotap_hf.app.guard import HostAndOriginGuard, JobQuota, UploadLimit, visitor_address
from anthrotap_hf.app.jobs import JobCancelledError, JobError
from anthrotap_hf.app.page import AppSettings, JobButtons, Page
from anthrotap_hf.app.uploads import Limits, Uploads, Visitor, Visitors, take_video
from anthrotap_hf.utils.workers import WorkerCancelledError
from anthrotap_hf.video import VideoError, frames_before_damage, write_video

HERE = "127.0.0.1:7860"
PAGE = f"http://{HERE}"


def status(method: str, headers: dict[str, str], make: Any = HostAndOriginGuard, **options: Any) -> int:
    """What the guard answers; 200 if it passes the request on."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "headers": raw, "path": "/gradio_api/upload"}
    # In a thread of its own: a browser that another test has started may have a loop at work in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, make(app, **options)(scope, None, send)).result()  # type: ignore[arg-type]
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {"host": HERE}, 200),
        ("GET", {"host": "localhost:7860"}, 200),
        ("GET", {"host": "[::1]:7860"}, 200),
        ("GET", {"host": "evil.example:7860"}, 403),  # a name that was bound to this machine
        ("GET", {"host": "127.0.0.1.evil.example"}, 403),
        ("GET", {}, 403),
        ("POST", {"host": "evil.example", "origin": "http://evil.example"}, 403),
        ("POST", {"host": HERE}, 200),  # no browser
        ("POST", {"host": HERE, "origin": PAGE}, 200),
        ("POST", {"host": HERE, "origin": "http://evil.example"}, 403),
        ("POST", {"host": HERE, "origin": "http://127.0.0.1:9999"}, 403),
        ("POST", {"host": HERE, "origin": "null"}, 403),
        ("POST", {"host": HERE, "origin": PAGE, "sec-fetch-site": "cross-site"}, 403),
        ("POST", {"host": HERE, "origin": PAGE, "sec-fetch-site": "same-origin"}, 200),
        ("GET", {"host": HERE, "sec-fetch-site": "cross-site"}, 200),  # a link
    ],
)
def test_requests_of_other_sites_are_refused(method, headers, expected):
    assert status(method, headers) == expected


def test_a_page_for_others_has_any_name():
    foreign = {"host": "a.example", "origin": "http://evil.example"}
    assert status("GET", {"host": "a.example"}, any_host=True) == 200
    assert status("GET", {"host": "a.example"}, hosts=["A.example"]) == 200
    assert status("POST", foreign, any_host=True) == 403
    assert status("POST", {"host": "inner", "x-forwarded-host": "a.example", "origin": "https://a.example"}) == 403
    proxied = {"host": "inner", "x-forwarded-host": "a.example", "origin": "https://a.example"}
    assert status("POST", proxied, any_host=True) == 200


def test_so_many_jobs_an_hour_of_an_address():
    now = [100.0]
    quota = JobQuota(2, clock=lambda: now[0])
    assert [quota.take("a"), quota.take("a")] == [None, None]
    now[0] += 600
    assert quota.take("a") == 3000
    assert quota.take("b") is None
    now[0] += 3000
    assert [quota.take("a"), quota.take("a"), quota.take("a")] == [None, None, 3600]


def test_a_job_counts_once_its_work_began_even_if_it_is_canceled_before_it_reports(tmp_path, monkeypatch):
    page = Page(AppSettings(limits=Limits(jobs=1)), tmp_path)

    def cancel(*_, **__):
        raise WorkerCancelledError

    monkeypatch.setattr(page.worker, "run", cancel)
    visitor = Visitor("somebody", tmp_path, address="192.0.2.1")
    with pytest.raises(JobCancelledError):
        page.run(visitor, lambda *_, **__: None, print)
    with pytest.raises(JobError, match="This page takes 1 video an hour of a visitor"):
        page.run(visitor, lambda *_, **__: None, print)


def test_jobs_count_by_subscriber():
    quota = JobQuota(1, clock=lambda: 0.0)
    assert quota.take("2001:db8:1:2::1") is None
    assert quota.take("2001:db8:1:2:ffff::9") == 3600
    assert quota.take("2001:db8:1:3::1") is None
    assert [quota.take("192.0.2.1"), quota.take("::ffff:192.0.2.1")] == [None, 3600]


@pytest.mark.parametrize(
    ("peer", "forwarded", "is_space", "expected"),
    [
        ("10.16.3.1", ["6.6.6.6, 8.8.8.8, 10.1.1.1"], True, "8.8.8.8"),  # the first one is the visitor's word
        ("10.16.3.1", ["6.6.6.6", "8.8.8.8", "::ffff:10.1.1.1"], True, "8.8.8.8"),
        ("10.16.3.1", ["6.6.6.6, 8.8.8.8:5555, 10.1.1.1:80"], True, "8.8.8.8"),
        ("10.16.3.1", ["2001:4860::8"], True, "2001:4860::8"),
        ("10.16.3.1", ["6.6.6.6, [2001:4860::8]:443, [fd00::1]"], True, "2001:4860::8"),
        ("10.16.3.1", ["6.6.6.6, nonsense, 10.1.1.1"], True, "10.16.3.1"),
        ("10.16.3.1", ["6.6.6.6, unknown"], True, "10.16.3.1"),
        ("10.16.3.1", [], True, "10.16.3.1"),
        ("8.8.4.4", ["6.6.6.6"], False, "8.8.4.4"),
    ],
)
def test_a_visitor_of_a_space_is_known_by_what_the_proxy_reports(peer, forwarded, is_space, expected):
    assert visitor_address(peer, forwarded, is_space) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("192.168.1.7", True), ("box.lan", True)],
)
def test_a_page_elsewhere_than_on_this_machine_is_for_strangers(host, expected):
    settings = AppSettings(hosts=(host,))
    assert settings.is_for_strangers is expected
    assert not settings.has_any_name


def test_a_damaged_upload_is_taken_up_to_the_damage_as_track_takes_it(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3), np.uint8)
    upload = tmp_path / "hash/a.mp4"
    upload.parent.mkdir()
    write_video(upload, frames, 10)
    data = bytearray(upload.read_bytes())
    at = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[at : at + 400] = b"\xff" * 400
    upload.write_bytes(data)
    count = len(list(frames_before_damage(bytes(data))))
    assert 0 < count < 30
    (tmp_path / "tab").mkdir()
    video = take_video(upload, tmp_path / "tab", Limits(), lambda *_: None, Uploads())
    assert video.frames == len(video.previews) == count
    assert video.damage.endswith(f"points are tracked in the {count} frames before that.")


def test_one_upload_of_two_visitors(tmp_path):
    uploads, upload = Uploads(), tmp_path / "hash/a.mp4"
    upload.parent.mkdir()
    upload.write_text("video")
    uploads.take(upload, tmp_path / "first.mp4")
    assert not upload.exists()
    uploads.take(upload, tmp_path / "second.mp4")
    assert {path.read_text() for path in tmp_path.glob("*.mp4")} == {"video"}
    (tmp_path / "first.mp4").unlink()
    with pytest.raises(VideoError, match=r"This video is gone: choose the file again\."):
        uploads.take(upload, tmp_path / "third.mp4")


def test_so_many_visitors_are_let_in(tmp_path, monkeypatch):
    monkeypatch.setattr("anthrotap_hf.app.uploads.MAX_VISITORS", 2)
    left: list[str] = []
    visitors = Visitors(tmp_path, left.append)
    # Who only asks takes no place.
    for number in range(9):
        assert not visitors.find(f"s{number}").folder.exists()
    assert len(visitors) == 0
    first = visitors.get("a")
    first.videos["track"] = object()  # type: ignore[assignment]
    visitors.get("b")
    visitors.get("c")
    assert left == ["b"]
    visitors.get("c").is_opening = True
    with pytest.raises(ValueError, match="Too many people use this page now"):
        visitors.get("d")
    assert visitors.find("a") is first
    visitors.leave("c")
    visitors.get("d")


def test_calls_of_any_session_make_no_visitors(tmp_path):
    page = Page(AppSettings(), tmp_path)
    buttons, request = JobButtons.__new__(JobButtons), Request()
    buttons.page = page
    for request.session_hash in ("a", "b"):
        assert buttons._on_queue(request) == ""
        assert "Nothing of yours" in buttons._on_cancel(request)[0]
    assert len(page.visitors) == 0
    assert page._waiting == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("length", "expected"), [({"content-length": "60"}, 200), ({"content-length": "61"}, 507), ({}, 411)]
)
def test_all_uploads_together_have_a_limit(length, expected, tmp_path):
    (tmp_path / "old.mp4").write_bytes(bytes(40))
    make = partial(UploadLimit, folder=tmp_path, total_bytes=100)
    assert status("POST", length, make=make) == expected


def ask(address: str, path: str, content: Any = None, **headers: str) -> tuple[int, str]:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address + path, data, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_served_page(served):
    """Other names and sites are refused; the configuration names no folder; malformed calls give one sentence each."""
    address, temporary = served
    assert ask(address, "/config", Host="evil.example")[0] == 403
    assert ask(address, "/gradio_api/upload", {}, Origin="http://evil.example")[0] == 403
    code, config = ask(address, "/config")
    assert code == 200
    assert str(temporary) not in config
    assert str(Path.home()) not in config
    assert not re.search(r'"/(tmp|home|root|usr|work)/', config)
    calls = json.loads(config)["dependencies"]
    for number, call in enumerate(calls):
        if not call["backend_fn"] or not call["inputs"]:
            continue
        session = f"malformed{number}"
        for data in ([], ["../../etc/passwd"] * len(call["inputs"]), [{"path": "/etc/passwd"}] * len(call["inputs"])):
            joined, _ = ask(
                address, "/gradio_api/queue/join", {"data": data, "fn_index": call["id"], "session_hash": session}
            )
            assert joined in (200, 400, 422)
            if joined == 200:
                answer = ask(address, f"/gradio_api/queue/data?session_hash={session}")[1]
                assert "process_completed" in answer or "unexpected" in answer
                assert "/etc/passwd:" not in answer
                assert "root:x:" not in answer
    assert "Traceback" not in (temporary / "log.txt").read_text()


SWEEP = "from anthrotap_hf.utils.folder_lock import temporary_folder\nwith temporary_folder('anthrotap-app'): pass"


@pytest.mark.slow
@pytest.mark.parametrize("names", ["SIGTERM", "SIGINT SIGINT", "SIGHUP", "SIGKILL"])
def test_nothing_of_a_page_is_left(serve, tmp_path, names):
    numbers = [getattr(signal, name) for name in names.split()]
    with serve(tmp_path) as address:
        (root,) = tmp_path.glob("anthrotap-app-*")
        (root / "visitors/somebody").mkdir(parents=True)
        (root / "visitors/somebody/video.mp4").write_text("of a visitor")
        assert ask(address, "/")[0] == 200
        (server,) = (child for child in _children() if child.cwd() == str(tmp_path))
        for number in numbers:
            server.send_signal(number)
        code = server.wait(20)
    if numbers == [signal.SIGKILL]:
        assert root.exists()
        environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
        subprocess.run([sys.executable, "-c", SWEEP], check=True, env=environment)
    else:
        assert code in (130, None)
        assert "Traceback" not in (tmp_path / "log.txt").read_text()
    assert not root.exists()


def _children() -> list[Any]:
    import psutil

    return psutil.Process().children()
