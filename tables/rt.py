"""State of the rt tier's sensors."""

from app import app
from app.runtime.state_table import StateTable

rt_state = StateTable.for_tier(app, "rt")
