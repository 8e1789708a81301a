"""Many visitors of the page at once, with work: who is answered, who refused by which sentence, and how memory grows.

python -m benchmarks.visitors                             # 20 visitors
python -m benchmarks.visitors --visitors 4 --max-jobs 3   # one of them is beyond the limit
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from benchmarks.building import short_videos


class Visitor:
    """One session: uploads a video, sets a grid of points and tracks them."""

    def __init__(self, address: str, config: dict[str, Any], video: Path) -> None:
        self.address, self.config, self.video = address, config, video
        self.session = uuid.uuid4().hex[:10]
        self.queue = self.answer = "nothing"
        self.seconds = 0.0

    def calls(self, element: str, event: str) -> list[dict[str, Any]]:
        """Return what the page calls when something happens to an element."""
        ids = {each["id"] for each in self.config["components"] if each["props"].get("elem_id") == element}
        found = [
            each
            for each in self.config["dependencies"]
            if any(target in ids and name == event for target, name in each["targets"])
        ]
        assert found, f"no {event} of {element}"
        return found

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> str:
        request = urllib.request.Request(self.address.rstrip("/") + path, body, {"content-type": kind})
        with urllib.request.urlopen(request, timeout=900) as answer:
            content: str = answer.read().decode()
            return content

    def call(self, call: dict[str, Any], data: list[Any]) -> dict[str, Any]:
        """Call a function of the page, and wait for its answer."""
        body = {"data": data, "fn_index": call["id"], "session_hash": self.session, "trigger_id": None}
        self.ask("/gradio_api/queue/join", json.dumps(body).encode())
        lines = self.ask(f"/gradio_api/queue/data?session_hash={self.session}").splitlines()
        messages = [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
        done = next(message for message in messages if message["msg"] == "process_completed")
        if not done["success"]:
            raise ValueError(json.dumps(done["output"]))
        return done

    def visit(self) -> None:
        begin = time.perf_counter()
        try:
            mark = uuid.uuid4().hex
            head = f'--{mark}\r\ncontent-disposition: form-data; name="files"; filename="{self.video.name}"\r\n\r\n'
            body = head.encode() + self.video.read_bytes() + f"\r\n--{mark}--\r\n".encode()
            (path,) = json.loads(self.ask("/gradio_api/upload", body, f"multipart/form-data; boundary={mark}"))
            file = {"path": path, "orig_name": self.video.name, "meta": {"_type": "gradio.FileData"}}
            self.call(self.calls("track-upload", "upload")[0], [file])
            self.call(self.calls("track-grid", "click")[0], [0, 5])
            self.call(self.calls("track-grid", "click")[0], [0, 5])
            said, run = self.calls("track-run", "click")[:2]
            self.queue = re.sub("<[^>]*>", "", str(self.call(said, [])["output"]["data"][0]))
            answer = self.call(run, [["locotrack-tiny"]])
            text = json.dumps(answer["output"])
            sentence = re.search(r"<p class=.\"?[^>]*>([^<]*)</p>", text)
            is_done = answer["success"] and ".tracks.mp4" in text
            self.answer = "tracked" if is_done else (sentence[1] if sentence else text[:200])
        except (OSError, StopIteration, ValueError, KeyError, AssertionError) as error:
            reason = error.read().decode() if isinstance(error, urllib.error.HTTPError) else repr(error)
            self.answer = f"**{reason[:200]}**"
        self.seconds = time.perf_counter() - begin


def memory(server: int) -> float:
    """Return the memory of a process and its children, MB; what they share counts once."""
    total = 0
    for process in (psutil.Process(server), *psutil.Process(server).children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--max-jobs", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        videos = short_videos(Path(temporary), options.visitors)
        command = [sys.executable, "-m", "anthrotap_hf.cli.main", "app", "--max-jobs", str(options.max_jobs)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            with urllib.request.urlopen(f"{address.rstrip('/')}/config") as answer:
                config = json.load(answer)
            visitors = [Visitor(address, config, video) for video in videos]
            # The first one has the tracker loaded.
            visitors[0].visit()
            levels = [memory(server.pid)]
            threads = [threading.Thread(target=visitor.visit) for visitor in visitors[1:]]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(1)
                levels.append(memory(server.pid))
        finally:
            server.terminate()
            server.wait(60)
    for text, number in Counter(visitor.answer for visitor in visitors).most_common():
        print(f"{number} of {len(visitors)}: {text}")
    print(f"the first in {visitors[0].seconds:.0f} s, the last in {max(visitor.seconds for visitor in visitors):.0f} s")
    for text in sorted({visitor.queue for visitor in visitors})[:3]:
        print(f"queue: {text or 'no wait'}")
    print(f"memory after the first: {levels[0]:.0f} MB, at the end {levels[-1]:.0f} MB, at most {max(levels):.0f} MB")


if __name__ == "__main__":
    main()
