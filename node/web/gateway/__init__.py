"""The gateway's routes at the door, and the client that asks origins."""
