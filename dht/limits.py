"""Every bound of the DHT in one place; the unit is in the name.

The figures come from the Kademlia paper (k, alpha, refresh) and from measurements
of this code under loss and churn; `docs/protocol-dht.md` names those that are
part of the protocol and that another implementation must share.
"""

from __future__ import annotations

from typing import Final

# Datagrams.
DATAGRAM_BYTES_MAX: Final = 1200
REQUEST_BYTES_MIN: Final = 128  # so that the shortest reply fits in any request
FIRST_PING_BYTES: Final = 136  # a pong with its proof, in a private network too
FIRST_FIND_BYTES: Final = 968  # 20 IPv4 contacts with a proof
RECEIVE_BUFFER_BYTES: Final = 4 << 20
INGRESS_DATAGRAMS_MAX: Final = 1024
INGRESS_BATCH_DATAGRAMS: Final = 32

# Kademlia.
K: Final = 20
ALPHA: Final = 4
REPLY_CONTACTS_MAX: Final = 20
REPLY_CONTACTS_IPV6_MAX: Final = 16
REPLY_CONTACTS_BESIDE_RECORD_MAX: Final = 6
REPLACEMENTS_PER_BUCKET_MAX: Final = 8
BUCKET_REFRESH_SECONDS: Final = 3600.0
REFRESH_CONTACTS: Final = 8  # that the refresh of a bucket looks for
REFRESH_FIND_BYTES: Final = 452  # 8 IPv4 contacts with a proof
CONTACT_STALE_SECONDS: Final = 900.0
CONTACT_FAILURES_MAX: Final = 2
LOOKUP_REQUESTS_MAX: Final = 400
LOOKUP_REQUESTS_PER_GROUP_MAX: Final = 8
FIND_PATHS: Final = 2
STORE_PATHS: Final = 2
CROWDED_FROM: Final = 4  # times denser than the network: an attack, not chance
REGION_TRAVERSALS_MAX: Final = 4
SEEDS: Final = 60  # contacts of the table that a lookup begins with

# Diversity: a group is an IPv4 /24 or an IPv6 /64 of public addresses.
GROUP_CONTACTS_PER_BUCKET_MAX: Final = 2  # in the bucket of the own id
GROUP_CONTACTS_PER_FAR_BUCKET_MAX: Final = 1
GROUP_CONTACTS_PER_TABLE_MAX: Final = 3
SLICE_BITS: Final = 4  # a bucket has 16 slices of its range of ids
SLICE_CONTACTS_MAX: Final = 3  # of public contacts
PORT_MIN: Final = 1024

# Requests.
SOFT_TIMEOUT_SECONDS: Final = 0.25
SOFT_TIMEOUT_SECONDS_MIN: Final = 0.1
SOFT_TIMEOUT_SECONDS_MAX: Final = 1.0
RETRANSMIT_SECONDS_MIN: Final = 0.25
RETRANSMITS_MAX: Final = 2
PATIENCE: Final = 3  # pauses between sendings that a lookup waits for an answer
STORE_PATIENCE: Final = 2  # the same, where the next nearest keeper does as well
REQUEST_SECONDS_MAX: Final = 1.5  # longer for stores, where answers take long
DEAD_SECONDS: Final = 60.0
DEAD_ADDRESSES_PER_HOST_MAX: Final = 3
STRANGER_REQUESTS_PER_HOST_MAX: Final = (
    8  # requests to strangers of a public host in a minute
)
STRANGER_REQUESTS_PER_ADDRESS_MAX: Final = 10  # in an hour
STRANGER_REQUESTS_SECONDS: Final = 3600.0
INTRODUCE_AFTER_SECONDS: Final = 1.0
INTRODUCE_PAUSE_SECONDS: Final = 0.1
INVITATIONS_MAX: Final = 64
PEERS_REMEMBERED_MAX: Final = 2048
REQUESTS_IN_FLIGHT_MAX: Final = 32  # of one notify or store
ANNOUNCES_IN_FLIGHT_MAX: Final = 56  # of all sweeps; a million keys in ten minutes

# Proofs and tokens.
PROOF_SECONDS: Final = 3600.0
TOKEN_BYTES: Final = 8
TOKEN_SECRET_SECONDS: Final = 300.0
TOKEN_USE_SECONDS: Final = 290.0  # shorter than any keeper forgets a secret
SECRETS_MAX: Final = 4096  # shared with other keys, remembered
PROOFS_PER_SECOND: Final = 2000.0  # made, by all of one standing
PROOFS_MADE_PER_SOURCE_PER_SECOND: Final = 50.0
OBSERVED_REPORTS_MAX: Final = 16
OBSERVED_REPORTS_MIN: Final = 3

# Private networks.
CLOCK_WINDOW_SECONDS: Final = 120
REPLAY_MACS_MAX: Final = 200_000

# Providers.
PROVIDER_SECONDS: Final = 5 * 3600
RENEW_SECONDS: Final = 2 * 3600
CLOCK_SKEW_SECONDS: Final = 600
SLICE_SECONDS: Final = 14 * 24 * 3600  # for which a slice is good
SLICE_RENEW_SECONDS: Final = 24 * 3600  # before its end
SLICE_ENTRIES_MAX: Final = 24
SLICES_PER_ANNOUNCE_MAX: Final = 8
CENSUS_CONTACTS: Final = 128  # networks of fewer nodes are met by one lookup
CENSUS_REGIONS_MIN: Final = 4  # of a sweep for which that pays
KEEPERS_KNOWN_SECONDS: Final = 240.0  # less than a write token is good for
PROVIDERS_PER_KEY_MAX: Final = 1024
INVENTORIES_BYTES_MAX: Final = 224 << 20  # of what is kept for others
PROVIDER_OVERHEAD_BYTES: Final = 2100  # what a provider costs beside its slices
SLICE_OVERHEAD_BYTES: Final = 300  # what a slice costs beside its entries
ENTRY_COST_BYTES: Final = 12  # what an entry costs, the index included
PROVIDERS_PER_REPLY_MAX: Final = 8
PROVIDERS_PER_SEARCH_MAX: Final = 256
PROVIDERS_PER_GROUP_MAX: Final = 4  # of those, from one /24 or /64
GROWTH_SHARE: Final = 0.75  # share of its present size from which a table has grown
REPUBLISH_SCARCE_SECONDS: Final = 2.0  # debounce after the table grew
REPUBLISH_SCARCE_SECONDS_MAX: Final = 30.0
REPUBLISH_RETRY_SECONDS: Final = 60.0

# Origin leases; see `dht.leases`.
LEASE_SECONDS: Final = 60.0  # from when its holder asked last
LEASE_HOLDERS_MAX: Final = 4  # of one key, before everybody asks the origin itself
LEASE_KEEPERS: Final = 3  # the nearest nodes to a key that grant its lease
LEASE_SEARCH_COUNT: Final = 6  # nodes near a key that a search for its lease asks
LEASES_MAX: Final = 16_384
LEASES_PER_NODE_MAX: Final = 4096

# Records.
RECORD_BYTES_MAX: Final = 700
RECORD_NAME_BYTES_MAX: Final = 214
RECORD_VERSION_BYTES_MAX: Final = 128
RECORD_KEPT_SECONDS: Final = 24 * 3600
RECORDS_BYTES_MAX: Final = 64 << 20
RECORD_OVERHEAD_BYTES: Final = 600  # what one kept record costs beside its bytes
PROOFS_READ_PER_SOURCE_PER_SECOND: Final = 20.0  # in requests
PROOFS_READ_PER_SECOND: Final = 500.0
VERIFICATIONS_PER_SOURCE_PER_SECOND: Final = 500.0  # of what is to be stored
VERIFICATIONS_PER_SECOND: Final = 1000.0
NOTIFIES_PER_SOURCE_PER_SECOND: Final = 20.0
NOTIFIES_PER_SECOND: Final = 100.0  # whose signatures are verified
NOTIFIES_PER_PUBLISHER_PER_SECOND: Final = 20.0

# Budgets; see `dht.budgets`.
BUDGET_SOURCES_MAX: Final = 4096
BUDGET_TOTAL_BURST_SECONDS: Final = 2.0
SHED_AGE_SECONDS: Final = 3600.0

# Notify.
HINTS_MAX: Final = 4
HINT_PING_SECONDS: Final = 60.0
RELEASES_SEEN_MAX: Final = 10_000

# Life of a node.
JOIN_SECONDS_MAX: Final = 4.5
JOIN_RETRY_SECONDS: Final = 2.0
JOIN_RETRY_SECONDS_MAX: Final = 60.0
TICK_SECONDS: Final = 10.0
LOOK_BACK_SECONDS: Final = 60.0
ADDRESS_SETTLE_SECONDS: Final = 3.0  # until most observers have seen a new address
OBSERVERS_ASKED_MAX: Final = 16
INTRODUCERS_MAX: Final = 3
RESERVE_EVERY_SECONDS: Final = 25.0  # Linux forgets an idle UDP flow after 30 s
RESERVATION_SECONDS: Final = 75.0
RESERVATIONS_MAX: Final = 64
RESERVATIONS_PER_GROUP_MAX: Final = 4
CALLS_PER_SOURCE_PER_MINUTE_MAX: Final = 10
CALLS_PER_MINUTE_MAX: Final = 120
DIAL_BACK_HELPERS: Final = 5
DIAL_BACK_WAIT_SECONDS: Final = 4.0  # a TCP connection may take 3 s
DIAL_BACK_RETRY_SECONDS: Final = 10.0  # after a round without a verdict, then doubled
DIAL_BACK_RETRY_SECONDS_MAX: Final = 60.0
DIAL_BACK_HURRY_SECONDS: Final = 2.0  # between two looks while there is no verdict
DIAL_BACK_PATIENCE_SECONDS: Final = 6.0  # with fewer helpers than wanted
DIAL_BACK_EVERY_SECONDS: Final = 1800.0
DIAL_BACKS_PER_HOUR_MAX: Final = 12  # for one asker
DIAL_BACKS_PER_MINUTE_MAX: Final = 60
DIAL_BACKS_REMEMBERED_MAX: Final = 1024
FORMER_CONTACTS_MAX: Final = 64
SENT_TO_MEMORY_SECONDS: Final = 600.0
SENT_TO_HOSTS_MAX: Final = 4096
