"""The gateway: what package managers ask for, answered from the network.

One resolver brings a file by its digest: from the store, from peers raced with the
origin, or not at all. Everything else here reads the pages of upstream indexes, which
say what digest a file has and where its origin is. No sockets: the HTTP server and
client are in `node.web.gateway`.
"""
