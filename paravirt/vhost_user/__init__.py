"""The vhost-user protocol: devices whose queues another program serves, and devices of ours that we serve to others.

``messages`` has numbers and layouts.  Front end: ``connection`` is a socket that is not trusted, ``front_end`` the
order in which things are said; when they are said, and what happens when the other program dies, is ``device``.  Back
end: ``back_end`` listens, ``conversation`` takes what a front end says, ``session`` does it, ``memory_table``,
``served_queue`` and ``inflight`` are what it is about, ``lines`` what is said of its mistakes; ``kinds`` makes back
ends of what a user attaches.
"""
