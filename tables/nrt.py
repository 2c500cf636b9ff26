"""State of the nrt tier's sensors."""

from app import app
from app.runtime.state_table import StateTable

nrt_state = StateTable.for_tier(app, "nrt")
