"""Attach profile-less events to people: write the mapped ids into the event, as if its sender had sent them."""

from collections.abc import Callable, Sequence

from weir.adapters import avro
from weir.core.blocked_ids import BlockedIds
from weir.core.identifiers import PUBLIC_MARK, identity_key
from weir.core.registry import IdMapping
from weir.identity.id_mapping import mapping_of, named_by
from weir.identity.messages import IdentityEvent

BlockedOf = Callable[[str], BlockedIds]  # values that are not ids, by source
MappingsOf = Callable[[str], Sequence[IdMapping]]  # by source, as the registry has them now


class IdMapper:
    """Applies the mappings that are in force now to profile-less events."""

    def __init__(self, mappings_of: MappingsOf, blocked_of: BlockedOf) -> None:
        self._mappings_of = mappings_of
        self._blocked_of = blocked_of

    def map_ids(self, event: IdentityEvent, value: bytes) -> bytes:
        """Return the record to continue with; rewritten if a mapping finds identifiers in the event.

        Then `event.mapped_to` is set to the identifier that decides it. A rewritten record asks for a profile, so
        no mapping is ever applied to it again. `avro.UnreadableError` if the record is damaged after the fields that
        identity reads of every event.
        """
        mapping = mapping_of(self._mappings_of(event.source), event.name)
        if mapping is None:
            return value
        schema, record = avro.read_as_written(value)
        blocked = self._blocked_of(event.source)
        named = named_by(mapping, record["properties"], blocked)
        if named is None:
            return value
        record["client_profile_id"] = named.profile_id or record["client_profile_id"]
        record["user_id"] = named.user_id or record["user_id"]
        record["anonymous_id"] = named.anonymous_id or record["anonymous_id"]
        record["client_session_id"] = named.session_id or record["client_session_id"]
        record["wants_profile"] = True  # and a session, unless the sender asked for none
        event.mapped_to = identity_key(
            record["client_profile_id"],
            record["user_id"],
            record["anonymous_id"],
            record["client_session_id"],
        )
        record["identity_key"] = PUBLIC_MARK * event.public + event.mapped_to
        return schema.encode(record)
