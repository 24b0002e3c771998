"""Benchmarks, each figure beside its floor and its peer in the same run; ``./dev bench [NAME…]``.

The definitions of the figures stand with the functions that take them; how to read them is said in
``docs/benchmarks.md``.  They are not tests: nothing here passes or fails.
"""
