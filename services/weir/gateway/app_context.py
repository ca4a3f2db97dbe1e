"""What the requests of one gateway process share: made once, typed, and passed on whole or in part."""

from dataclasses import dataclass

from weir.adapters.kafka.record_limits import LimitsFollower
from weir.erasure.topic import Erasures
from weir.gateway.api.counting import GoalCounter
from weir.gateway.api.finding import EventFinder
from weir.gateway.api.shared_goals import SharedGoals
from weir.gateway.http.body_budget import BodyBudget
from weir.gateway.http.rate_limits import ClientBuckets, Proxies
from weir.gateway.ingest.backlog_guard import RetentionGuard
from weir.gateway.ingest.producer import GatewayProducer
from weir.gateway.ingest.receipts import Receipts
from weir.gateway.metrics import Counts
from weir.gateway.registry_copy import Registry
from weir.settings.gateway import GatewaySettings


@dataclass
class AppContext:
    """The services that requests use; one instance per process."""

    settings: GatewaySettings
    registry: Registry
    producer: GatewayProducer
    clients: ClientBuckets
    proxies: Proxies
    budget: BodyBudget
    counts: Counts
    receipts: Receipts
    counting: GoalCounter
    finding: EventFinder
    guard: RetentionGuard
    erasures: Erasures
    limits: LimitsFollower
    goals: SharedGoals
