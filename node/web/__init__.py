"""The node's HTTP door on loopback: its API and a page that says what it is."""

from node.web.door import Door

__all__ = ["Door"]
