"""A filter for code that re-reads topics: it finds records of people who have been erased since."""

import uuid

from weir.adapters import avro
from weir.erasure.model import EraseFilter
from weir.erasure.topic import ErasureFollower
from weir.settings.shared import KafkaSettings


class ErasedPeople:
    """The erased people in the topic `erasures` at the time of construction. `UnavailableError`.

    Code that puts rows back must construct it after it has found the rows missing: an erasure
    publishes the person's digests before it deletes any row.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        follower = ErasureFollower(settings)
        follower.close()
        self._barred = EraseFilter(follower.erasures.by_id.values())

    def has(self, value: bytes) -> bool:
        """Check whether a record is an erased person's.

        It may be an event, a duplicate, a profile, a merge, a rejected event or a dead letter.
        """
        if not self._barred:
            return False
        try:
            name, record = avro.decode_any(value)
        except (avro.UnknownSchemaError, *avro.GARBAGE_ERRORS):
            return False
        return is_barred(self._barred, name, record)


def is_barred(barred: EraseFilter, name: str, record: avro.AvroRecord) -> bool:
    """Do the check of `ErasedPeople.has` on a decoded record. `name`: the name of its schema."""
    if name == "Resolved":
        names = [f"u:{record['user_id']}"] if record["user_id"] else []
        if not record["profile_id"] and record["anonymous_id"]:
            names.append(f"a:{record['anonymous_id']}")
        profiles = [record["profile_id"]] if record["profile_id"] else []
        return barred.has_person(record["workspace"], names, profiles, record["received_at"])
    if name == "Profile":  # a new person's versions are greater than the erasure's `until`
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
