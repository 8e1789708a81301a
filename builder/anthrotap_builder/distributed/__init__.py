"""`anthrotap build`: many videos become one dataset, on one machine or a cluster, whatever breaks on the way.

`build.py` is the whole story; `sources.py` finds videos, `folder.py` keeps what is done, `labeler.py` labels one
video in a process of its own, `steps.py` is what each rank does, `arrangement.py` orders the rows, `executors.py`
runs the steps on this machine, Slurm or Ray.
"""
