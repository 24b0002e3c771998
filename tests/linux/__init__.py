"""Linux as it is: Debian's cloud kernel under ``paravirt run``, as a user would have it (``./dev nested linux``).

``files.py`` makes what it boots into, ``workload.sh`` is what it does there, and ``inside.py`` runs and judges it, on
a KVM that runs kernels at CPL 0: ``__main__.py`` starts it under an emulated one.
"""
