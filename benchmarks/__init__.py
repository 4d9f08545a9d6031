"""Benchmarks of the fused operators against what people use today, on photographs.

Run them from the root of a checkout with ``python -m benchmarks``; see ``--help``.
"""
