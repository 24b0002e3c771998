"""The mutation check of host conformance: deliberately wrong hosts, each of which a case must catch.

``mutants/`` lists them as data, ``plant.py`` writes them into a copy of the sources, ``check.py`` runs the
images against each; ``python -m tests.conformance`` prints the list.
"""
