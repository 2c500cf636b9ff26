"""What has been set of sensors, whichever tier they are on."""

from app import app
from app.runtime.sensors_table import SensorsTable

sensors = SensorsTable.declare(app)
