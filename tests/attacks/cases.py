"""All attacks, by name; attacks with the same letter are of one kind."""

from __future__ import annotations

from tests.attacks import doors, downloads, lookups, packages, releases
from tests.attacks.lab import Attack

ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("framing", "A", "releases taken, no doubt", releases.framing),
        Attack("bad-package", "B", "other names updated", releases.bad_package),
        Attack(
            "replaced-dependency",
            "C",
            "dependents fetched",
            releases.replaced_dependency,
        ),
        Attack("returned-file", "C", "newest fetched", releases.file_that_returns),
        Attack("silence", "D", "fetches", downloads.silent_connections),
        Attack("half-frames", "D", "fetches", downloads.half_frames),
        Attack("hoarding", "D", "commands and fetches", downloads.hoarded_wants),
        Attack("silent-clients", "D", "pages and status", doors.silent_clients),
        Attack("half-handshakes", "D", "pages and status", doors.half_handshakes),
        Attack("silent-neighbours", "D", "pages and status", doors.silent_neighbours),
        Attack("first-liar", "E", "fetches", downloads.first_liar),
        Attack("claimed-size", "E", "artifacts kept", downloads.claimed_size),
        Attack("false-length", "E", "installs", packages.false_length),
        Attack("crowded-key", "F", "keepers that name it", lookups.crowded_key),
        Attack("signatures", "G", "pages and lookups", lookups.unwanted_signatures),
        Attack("full-store", "H", "shares", downloads.full_store),
        Attack("slow-line", "I", "downloads", downloads.slow_line),
        Attack("packed-metadata", "J", "memory bounded", packages.packed_metadata),
        Attack("spaces", "J", "status meanwhile", packages.spaces),
        Attack("foreign-metadata", "K", "right metadata", packages.foreign_metadata),
        Attack("squatter", "K", "nothing told", packages.squatter),
        Attack("inner-ports", "K", "ports not reached", packages.inner_ports),
        Attack("complaint", "G", "work bounded", downloads.complaints),
        Attack("lost-key-file", "A", "old key revoked", releases.lost_key_file),
    )
}
