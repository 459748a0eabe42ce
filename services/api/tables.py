"""Every table of the platform database, joined for migrations and start-up."""

import services.api.idempotency
import services.registry.tables
import services.sentinelnet.tables
import services.serving.tables
import services.training.tables  # noqa: F401  # imported for what they add to the metadata
from services.core.outbox import outbox_table
from services.core.tables import metadata

outbox = outbox_table(metadata)
