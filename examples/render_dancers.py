"""Renders the demo's clip: python examples/render_dancers.py dancers.mp4"""

import sys

from benchmarks.synthetic.demo import demo_clip

if len(sys.argv) != 2:
    sys.exit("usage: python examples/render_dancers.py PATH.mp4")
print("rendering two dancers, 96 frames ...", flush=True)
demo_clip(sys.argv[1])
