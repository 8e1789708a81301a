"""`anthrotap build`: many videos become one dataset, on this machine or a cluster, whatever breaks on the way.

`build.py` is the whole process; `video_sources.py` finds videos, `state.py` keeps what is done, `worker.py` labels one
video in a child process, `steps.py` is what each rank does, `assemble.py` orders the rows and writes the dataset,
`executors.py` runs the steps on this machine, Slurm or Ray.
"""
