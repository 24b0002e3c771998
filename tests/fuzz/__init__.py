"""Fuzzers with coverage and sanitizers: hostile input for what reads a guest's memory, images and files.

A target is a file in `targets/`: C for libFuzzer, Python for atheris.  `seeds.py` makes what they begin with,
`build.py` builds them, `__main__.py` runs them and says what they found.
"""
