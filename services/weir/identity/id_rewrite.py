"""Attaches profile-less events to people: rewrites them as their sender would have sent them with the ids."""

from collections.abc import Callable, Sequence

from weir.adapters import avro
from weir.core.blocked_ids import BlockedIds
from weir.core.identifiers import PUBLIC_MARK, identity_key
from weir.core.registry import IdMapping
from weir.identity.id_mapping import mapping_of, named_by
from weir.identity.messages import IdentityEvent

BlockedOf = Callable[[str], BlockedIds]  # of a source, what of its ids are none
MappingsOf = Callable[[str], Sequence[IdMapping]]  # of a source, as the registry has them now


class IdMapper:
    """Says by the mappings in force now where a profile-less event belongs."""

    def __init__(self, mappings_of: MappingsOf, blocked_of: BlockedOf) -> None:
        self._mappings_of = mappings_of
        self._blocked_of = blocked_of

    def attach(self, event: IdentityEvent, value: bytes) -> bytes:
        """The record to go on with. If it names somebody, `event.mapped_to` says who decides about it.

        A rewritten record asks for a profile, so no mapping is ever applied to it again.
        `avro.UnreadableError`: it is damaged behind what identity reads of every event.
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
        record["wants_profile"] = True  # and a visit, unless the sender asked for none
        event.mapped_to = identity_key(
            record["client_profile_id"],
            record["user_id"],
            record["anonymous_id"],
            record["client_session_id"],
        )
        record["identity_key"] = PUBLIC_MARK * event.public + event.mapped_to
        return schema.encode(record)
