"""The software vCPUs' process: Unicorn, driven by records on sockets.  It imports nothing of the host's.

``software.py`` starts it as ``python -m paravirt.accel.engine``; the engine (GPL-2.0) is loaded here alone.
"""
