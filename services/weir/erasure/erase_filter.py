"""Which records of the topics are of people who were erased since: who reads topics again passes over them."""

import uuid

from weir.adapters import avro
from weir.erasure.model import EraseFilter
from weir.erasure.topic import ErasureFollower
from weir.settings.shared import KafkaSettings


class ErasedPeople:
    """As the topic `erasures` has them at the time of the construction. `NotReachedError`.

    Whoever writes rows makes one once it is known that they are missing: an erasure says whom it
    bars before it deletes anything.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        follower = ErasureFollower(settings)
        follower.close()
        self._barred = EraseFilter(follower.erasures.by_id.values())

    def has(self, value: bytes) -> bool:
        """Whether a record is of theirs: an event, its repeat, a profile, merge, refusal or dead letter."""
        if not self._barred:
            return False
        try:
            name, record = avro.decode_any(value)
        except (avro.UnknownSchemaError, *avro.GARBAGE_ERRORS):
            return False
        return is_barred(self._barred, name, record)


def is_barred(barred: EraseFilter, name: str, record: avro.Record) -> bool:
    """See `ErasedPeople.has`; `name`: of the record's schema."""
    if name == "Resolved":
        names = [f"u:{record['user_id']}"] if record["user_id"] else []
        if not record["profile_id"] and record["anonymous_id"]:
            names.append(f"a:{record['anonymous_id']}")
        profiles = [record["profile_id"]] if record["profile_id"] else []
        return barred.has_person(record["workspace"], names, profiles, record["received_at"])
    if name == "Profile":  # of somebody new, versions are above the erasure's moment
        return barred.has_person(
            record["workspace"], [record["identity_key"]], [], record["version"]
        )
    if name == "Merge":
        merged = (record["from_profile"], record["into_profile"])
        return barred.has_person(record["workspace"], [], merged, record["merged_at"])
    if name in ("Rejected", "Duplicate"):
        return barred.has_row(str(uuid.UUID(bytes=record["event_id"])))
    if name == "DeadLetter":
        place = (record["origin_topic"], record["origin_partition"], record["origin_offset"])
        return barred.has_row("/".join(map(str, (*place, record["step"]))))
    return False
