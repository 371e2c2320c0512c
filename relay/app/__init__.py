"""The composition root: builds every part, starts and stops them in order.

``supervisor`` is the process that the operator starts; it binds the sockets and keeps one ``worker``
process per processor running.  Nothing else in the relay knows all the parts.
"""
