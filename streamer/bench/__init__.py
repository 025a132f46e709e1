"""Measurements of the running product, from outside: real processes, real sockets, marks burnt into the pictures."""
