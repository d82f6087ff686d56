"""Reaching others: the local network, routers, invitations, first contacts."""
