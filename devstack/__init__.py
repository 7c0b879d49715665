"""The servers that a laptop and the tests run: one supervisor, five real servers, loopback only.

Production talks to servers of its own; nothing in the product imports this package.
"""
