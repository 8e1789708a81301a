"""Make the sample that `load_dataset("anthrotap")` loads: python examples/make_sample.py CLIPS FOLDER

Excerpts of clips whose licenses allow it, and a rendered clip, are labeled by the open default. CLIPS is a folder with
the clips of `EXCERPTS`; FOLDER is `anthrotap_hf/data/sample`, which is made anew.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from anthrotap_hf.hub.dataset import prepare_dataset
from anthrotap_hf.hub.licenses import VideoLicenses
from anthrotap_hf.video import VideoWriter, iter_frames, probe

INTEL = "Intel, https://github.com/intel-iot-devkit/sample-videos"
POSE = "Amit Moryossef and others, https://github.com/sign-language-processing/pose"
# Of each clip: first frame, number of frames, license, whom to credit.
EXCERPTS = {
    "asl_book.mp4": (20, 48, "cc-by-4.0", INTEL),
    "corridor_two_people.mp4": (0, 35, "cc-by-4.0", INTEL),
    "one_by_one.mp4": (505, 48, "cc-by-4.0", INTEL),
    "selfie_wave.mp4": (5, 48, "mit", POSE),
    "upper_body.mkv": (20, 48, "cc-by-4.0", INTEL),
    "worker_back_view.mp4": (10, 48, "cc-by-4.0", INTEL),
}
RENDERED = Path(__file__).parent / "dance.mp4"
# What licenses want beside the clips.
NOTICE = Path(__file__).parent / "sample_notice.txt"
# With this seed, three real clips and no rendered one are in the split "validation".
SPLIT = ("--validation", "0.25", "--seed", "2")
SHORT_SIDE = 360  # pixels; the sample is to be small

if len(sys.argv) != 3:
    sys.exit("usage: python examples/make_sample.py CLIPS FOLDER")
clips, folder = (Path(argument) for argument in sys.argv[1:])
with tempfile.TemporaryDirectory() as name:
    work = Path(name)
    videos = work / "videos"
    videos.mkdir()
    shutil.copy(RENDERED, videos)
    licenses = [{"video": RENDERED.name, "license": "apache-2.0", "attribution": "AnthroTAP, rendered"}]
    for clip, (first, count, license, credit) in EXCERPTS.items():
        path = videos / f"{Path(clip).stem}.mp4"
        with VideoWriter(path, probe(clips / clip).fps, crf=14) as writer:
            for frame in islice(iter_frames(clips / clip), first, first + count):
                writer.write(frame.image)
        credit += f", {clip}, frames {first} to {first + count - 1}"
        licenses.append({"video": path.name, "license": license, "attribution": credit})
    table = work / "licenses.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, ["video", "license", "attribution"])
        rows.writeheader()
        rows.writerows(licenses)
    settings = ("--set", f"clips.short_side={SHORT_SIDE}")
    command = [sys.executable, "-m", "anthrotap_hf.cli.main", "build", str(videos), "--out", str(work / "dataset")]
    subprocess.run([*command, *SPLIT, *settings], check=True)
    publication = prepare_dataset(work / "dataset", "anthrotap", video_licenses=VideoLicenses.read(str(table), None))
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in publication.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
shutil.copy(NOTICE, folder / "NOTICE.txt")
print(f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.1f} MB in {folder}")
