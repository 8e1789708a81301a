"""Publishing on the Hub: licenses and provenance, cards, and the upload.

`dataset.py` and `model.py` collect what is published and refuse what may not be; `upload.py` uploads it.
"""
