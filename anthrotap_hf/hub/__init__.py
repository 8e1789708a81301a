"""Publishing on the Hub: licenses and provenance, cards, and the upload.

`dataset.py` and `model.py` collect what is published and reject what may not be; `upload.py` uploads it.
"""
