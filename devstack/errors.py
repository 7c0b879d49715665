"""What goes wrong when servers are started, in words for the person at the terminal."""

from __future__ import annotations


class StackError(RuntimeError):
    """A server of the stack could not be started or does not answer; the message holds its last log lines."""
