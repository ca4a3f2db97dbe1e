"""The source that everything is sent to: it may use every door."""

from weir.core.registry import IdMapping, Source, hash_key
from weir.registry.sources_file import DOORS

SOURCE = "fuzz"
KEY = "fuzz-write-key-of-32-letters-xxx"
READ_KEY = "fuzz-read-key-of-32-letters-xxxx"
ADMIN_KEY = "fuzz-admin-key-of-32-letters-xxx"
# Of a source whose senders do not sign, and whose goals are changed.
PLAIN = "plain"
PLAIN_KEY = "plain-write-key-of-32-letters-xx"
PLAIN_ADMIN_KEY = "plain-admin-key-of-32-letters-xx"
SECRET = "fuzz-signing-secret"
UNSIGNED = sorted(DOORS - {"suprsend"})
PAGE = "https://a.example"
SITE = "shop.example"

# As `weir apply` reads them.
DECLARED: dict[str, object] = {
    SOURCE: {
        "workspace": "fuzz",
        "write_keys": [KEY],
        "read_keys": [READ_KEY],
        "admin_keys": [ADMIN_KEY],
        "allowed_origins": [PAGE],
        "signing_secrets": [SECRET],
        "unsigned_doors": UNSIGNED,
        "sites": [SITE],
        "open_by_id": True,
        "dedup_window_seconds": 60,
        "mappings": [{"event": "*", "user_id": "user", "anonymous_id": "a.b"}],
    },
    PLAIN: {
        "workspace": "plain",
        "write_keys": [PLAIN_KEY],
        "admin_keys": [PLAIN_ADMIN_KEY],
        "open_by_id": True,
    },
}
# The first as the registry has it.
FUZZ = Source(
    id=SOURCE,
    workspace="fuzz",
    write_key_hashes=(hash_key(KEY),),
    read_key_hashes=(hash_key(READ_KEY),),
    admin_key_hashes=(hash_key(ADMIN_KEY),),
    allowed_origins=(PAGE,),
    signing_secrets=(SECRET,),
    unsigned_doors=tuple(UNSIGNED),
    sites=(SITE,),
    open_by_id=True,
    dedup_window_seconds=60,
    mappings=(IdMapping(event="*", user_id="user", anonymous_id="a.b"),),
)
