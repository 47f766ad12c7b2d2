# What can be imported from `mongopatterns.client`: read by type checkers, and by `__init__.py`.

from ._budget_plan import PoolBudget, PoolPlan, Tier
from ._deployment_async import AsyncDeployment
from ._deployment_report import Connections, DeploymentReport, Feature, Requirements, TopologyKind
from ._deployment_sync import Deployment
from ._factory_async import make_async_client, shared_async_client
from ._factory_sync import make_client, shared_client
from ._health_async import AsyncHealth
from ._health_plan import HealthReport, HealthState
from ._health_sync import Health
from ._pool_counts import PoolAlert, PoolSnapshot, ServerPool
from ._pool_monitor import PoolMonitor
from ._profiles import Profile
from ._slow_queries import SlowQueries
from ._slow_table import SlowCommand, SlowShape, SlowSnapshot

__all__ = [
    "AsyncDeployment",
    "AsyncHealth",
    "Connections",
    "Deployment",
    "DeploymentReport",
    "Feature",
    "Health",
    "HealthReport",
    "HealthState",
    "PoolAlert",
    "PoolBudget",
    "PoolMonitor",
    "PoolPlan",
    "PoolSnapshot",
    "Profile",
    "Requirements",
    "ServerPool",
    "SlowCommand",
    "SlowQueries",
    "SlowShape",
    "SlowSnapshot",
    "Tier",
    "TopologyKind",
    "make_async_client",
    "make_client",
    "shared_async_client",
    "shared_client",
]
