"""State of the batch tier's sensors."""

from app import app
from app.runtime.state_table import StateTable

batch_state = StateTable.for_tier(app, "batch")
