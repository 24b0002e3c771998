"""The vhost-user protocol, front end: devices whose queues another program serves.

``messages`` has numbers and layouts, ``connection`` a socket that is not trusted, ``front_end`` the order in which
things are said.  When they are said, and what happens when the other program dies, is ``device.py``.
"""
