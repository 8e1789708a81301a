"""Publishing on the Hub: what may go up, its card, and the upload.

`dataset.py` and `model.py` gather what goes up and refuse what may not; `upload.py` puts it there.
"""
