"""Make the moving picture of the README: python examples/readme_picture.py docs/pictures/labels.webp

Clips of the sample that comes with the package: on the left the video, on the right the same frames with their labels.
"""

import sys

import cv2
import numpy as np
from PIL import Image

import anthrotap_hf
from anthrotap_hf.visualization.overlay import draw_tracks, track_colors

# Videos of the sample, both with the same shape of frames, and how many frames a second of each are shown.
CLIPS = {"corridor_two_people.mp4": 12, "worker_back_view.mp4": 15}
WIDTH, HEIGHT = 480, 270  # of each half, pixels
TRAIL = 8  # frames
GAP = 4  # white columns between the halves

if len(sys.argv) != 2:
    sys.exit("usage: python examples/readme_picture.py FILE.webp")
rows = {}
for split in ("train", "validation"):
    for row in anthrotap_hf.load_dataset("anthrotap", split=split).with_format("numpy"):
        rows.setdefault(row["source_video"], row)
pictures, milliseconds = [], []
for name, fps in CLIPS.items():
    frames, tracks = anthrotap_hf.decode_row(rows[name])
    tracks = tracks.resized(HEIGHT, WIDTH)
    colors = track_colors(tracks)
    for t, frame in enumerate(frames):
        video = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        labels = draw_tracks(video, tracks, t, colors, trail=TRAIL)
        pictures.append(Image.fromarray(np.hstack([video, np.full((HEIGHT, GAP, 3), 255, np.uint8), labels])))
        milliseconds.append(round(1000 / fps))
pictures[0].save(
    sys.argv[1], save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=60, method=3
)
print(f"{len(pictures)} frames: {sys.argv[1]}")
