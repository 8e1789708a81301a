"""Render the clip that the README labels, `examples/dance.mp4`: python examples/render_dancers.py PATH.mp4"""

import sys
from pathlib import Path

# `benchmarks`, which holds the renderer, is no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.synthetic.demo import demo_clip

if len(sys.argv) != 2:
    sys.exit("usage: python examples/render_dancers.py PATH.mp4")
print("rendering two dancers, 96 frames ...", flush=True)
# H.264 at this quality keeps the clip below 300 KB, small enough to be committed.
demo_clip(sys.argv[1], crf=26)
