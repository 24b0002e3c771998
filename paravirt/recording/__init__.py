"""Recordings of calls: written, read, and made again.

``pcapng.py`` knows the file, ``recorder.py`` has a machine write one, ``reader.py`` reads one, ``convert.py`` makes
of it what a guest can replay, ``image.py`` puts that into the guest's image, ``replay.py`` runs it and says what
differed.
What the packets hold is declared in :mod:`hypercall_abi.recording`; docs/abi/recording.md describes it.
"""
