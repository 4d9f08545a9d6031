"""The backends: the same op names in each, and ``dispatch`` chooses.

A backend is a module with ``NAME``, ``OPS`` (op name -> function), ``unavailable()`` (why it can't
run on this machine, or None) and ``unsupported(op, tensor)`` (why it can't take this call).
"""
