"""What the body fit costs: CPU milliseconds a frame over 64 frames, one thread, without and with flow.

python -m benchmarks.fit VIDEO...
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import time
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import detect_people, union_mask
from anthrotap_builder.mesh_recovery.fit import fit_body
from anthrotap_hf.video import iter_frames, probe

FRAMES, RUNS = 64, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    cv2.setNumThreads(1)
    print("| video | landmarks and silhouette | reprojection error | + flow | reprojection error |")
    print("|---|---|---|---|---|")
    for video in parser.parse_args().videos:
        frames = np.stack([frame.image for frame in islice(iter_frames(video, 480), FRAMES)])
        contexts = [
            ClipContext.of(frames, probe(video).fps or 30, LabelingConfig(fit_flow=flow), threads=1)
            for flow in (False, True)
        ]
        people = [person for person in detect_people(contexts[0]) if not person.left_out]
        if not people:
            print(f"| {video.name} | no person was found |")
            continue
        people_mask = union_mask(people)
        columns = []
        for context in contexts:
            spent = []
            for _ in range(RUNS + 1):  # the first compiles and fills caches
                start = time.process_time()
                fit = fit_body(context, people[0], people_mask)
                spent.append(1000 * (time.process_time() - start) / len(frames))
            columns += [f"{median(spent[1:]):.1f} ms", f"{np.nanmedian(fit.reprojection_error):.1f} px"]
        print(f"| {video.name} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
