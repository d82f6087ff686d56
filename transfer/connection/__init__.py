"""One connection between peers: wire format, byte stream, TLS and handshake."""
