"""Conformance: images that judge a host, and how their verdicts are gathered.

``host.py`` says what is run and what came of it, ``launch.py`` starts one image, ``tap.py`` reads its
console, ``report.py`` shows the whole as text, JUnit XML or JSON.  Which image proves what is for the
images, ``guest_drivers/guests/conformance/``.
"""
