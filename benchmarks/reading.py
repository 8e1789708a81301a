"""Reading at scale: clips a second and peak memory, ours beside what a user of `datasets` would write.

    python -m benchmarks.reading                             # labels juggle.mp4, copies its rows, reads them
    python -m benchmarks.reading --rows 64 512 --undecoded   # does memory grow with the number of rows?

Rows of one labeled clip are copied under new ids into shards. Each reading is a process of its own; ways of reading
take turns. Time runs from when the first batch is asked for to when the last one is returned; memory is that of the
process and its workers, shared pages counted once. "datasets" is `load_dataset(streaming=True)` with numpy format,
shuffled by a buffer of 16 from one shard at a time (by default it mixes ten, and then sleeps for 5 s at the end of an
epoch), in a DataLoader whose workers decode by `decode_row`. Files are in the page cache: this is CPU, neither disks
nor networks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

BATCH, BUFFER, GROUP = 4, 16, 4
DECODED = 24  # clips, at most: decoding takes its time
WAYS = {
    "rows, undecoded": ("datasets-rows", "ours-bytes"),
    "frames and tracks": ("datasets-frames", "ours-frames"),
    "labels only": ("datasets-labels", "ours-none"),
}


def write_rows(labels: Path, folder: Path, rows: int, shards: int) -> Path:
    """A dataset of so many rows, copies of those in the folder `labels`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = folder / f"{rows}-rows-{shards}-shards"
    if folder.exists():
        return folder
    (folder / "data").mkdir(parents=True)
    tables = [pq.read_table(path) for path in sorted((labels / "data").glob("*.parquet"))]
    source = pa.concat_tables(tables)
    column = source.schema.get_field_index("clip_id")
    for shard in range(shards):
        numbers = range(shard * rows // shards, (shard + 1) * rows // shards)
        table = source.take([number % len(source) for number in numbers])
        table = table.set_column(column, "clip_id", pa.array([f"clip-{number}" for number in numbers]))
        name = f"train-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(table.cast(source.schema), folder / "data" / name, row_group_size=GROUP)
    return folder


def decode_rows(rows: list[dict]) -> list:
    from anthrotap_hf import decode_row

    return as_tensors(decode_row(row) for row in rows)


def collate_clips(clips: list) -> list:
    return as_tensors((clip.frames, clip.tracks) for clip in clips)


def as_tensors(pairs: Iterable[tuple]) -> list:
    """Tensors go from worker to parent by shared memory, arrays through a pipe."""
    import torch

    return [(torch.from_numpy(frames), tracks) for frames, tracks in pairs]


def decode_labels(rows: list[dict]) -> list:
    from anthrotap_hf.schema import decode_tracks

    return [decode_tracks(row) for row in rows]


def measure(way: str, folder: str, workers: int) -> dict[str, float]:
    """Clips a second and peak memory, MB, of one reading, in this process."""
    import datasets
    from torch.utils.data import DataLoader

    import anthrotap_hf

    who, what = way.split("-")
    collate: Callable[[list], list]
    if who == "ours":
        stream: Any = anthrotap_hf.stream_clips(folder, buffer_size=BUFFER, video=what)
        collate = collate_clips if what == "frames" else list
    else:
        settings: dict[str, Any] = {"columns": None}
        if what == "labels":
            import pyarrow.parquet as pq

            schema = pq.read_schema(next(Path(folder).glob("data/*.parquet")))
            settings["columns"] = [name for name in schema.names if name != "video"]
        stream = datasets.load_dataset(folder, split="train", streaming=True, **settings)
        stream = stream.with_format("numpy").shuffle(seed=0, buffer_size=BUFFER, max_buffer_input_shards=1)
        decoders: dict[str, Callable[[list], list]] = {
            "rows": list,
            "frames": decode_rows,
            "labels": decode_labels,
        }
        collate = decoders[what]
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        this = psutil.Process()
        while not over.wait(0.1):
            total = 0
            for process in (this, *this.children()):
                try:
                    memory = process.memory_full_info()
                except psutil.NoSuchProcess:
                    continue
                total += getattr(memory, "pss", 0) or memory.rss
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    loader = DataLoader(stream, BATCH, num_workers=workers, collate_fn=collate)
    watcher.start()
    start, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch)
        seconds = time.perf_counter() - start  # without the workers' end
        if what == "frames" and count >= DECODED:
            break
    over.set()
    watcher.join()
    return {"rate": count / seconds, "memory": peak / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=Path("../shared/clips/juggle.mp4"), help="what is labeled")
    parser.add_argument("--folder", type=Path, default=Path("outputs/reading"), help="keeps the files made")
    parser.add_argument("--rows", type=int, nargs="+", default=[128])
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--undecoded", action="store_true", help="leave out the slow ones, which decode")
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "FOLDER", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, folder, workers = options.measure
        print(json.dumps(measure(way, folder, int(workers))))
        return
    labels = options.folder / "labels"
    if not labels.exists():
        command = [
            sys.executable,
            "-m",
            "anthrotap_hf.cli.main",
            "label",
            str(options.video),
            "--out",
            str(labels),
        ]
        subprocess.run(command, check=True)
    print("| what is read | rows | workers | datasets: clips/s, MB | ours: clips/s, MB | ratio |")
    print("|---|---|---|---|---|---|")
    for rows in options.rows:
        folder = write_rows(labels, options.folder, rows, options.shards)
        for what, ways in WAYS.items():
            if options.undecoded and "frames" in what:
                continue
            for workers in options.workers:
                found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
                for _ in range(options.rounds):
                    for way in ways:
                        task = [way, str(folder), str(workers)]
                        command = [sys.executable, "-W", "ignore", __file__, "--measure", *task]
                        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                        found[way].append(json.loads(done.stdout))
                theirs, ours = ([median(run[key] for run in found[way]) for key in ("rate", "memory")] for way in ways)
                cells = " | ".join(f"{rate:.1f}, {memory:.0f}" for rate, memory in (theirs, ours))
                print(f"| {what} | {rows} | {workers} | {cells} | {ours[0] / theirs[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
