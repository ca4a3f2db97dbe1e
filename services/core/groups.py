"""The consumer groups, in the order in which an event passes them, and what each reads."""

from services.core import topics

GROUPS: dict[str, tuple[str, ...]] = {
    "weir.dedup": (topics.ACCEPTED,),
    "weir.identity": (topics.UNIQUE,),
    "weir.rates": (topics.USAGE,),
    "weir.sink": (
        topics.RESOLVED,
        topics.DUPLICATE,
        topics.REJECTED,
        topics.DEAD,
        topics.RECOVERIES,
        topics.USAGE,
        topics.QUOTAS,
        topics.PROFILES,
        topics.ERASURES,
    ),
}
