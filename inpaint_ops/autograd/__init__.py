"""Autograd of the operators: one file per op, with forward, backward and double backward."""
