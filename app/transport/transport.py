"""The transport that Faust is given: our consumer, and a producer that never repeats a record by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from faust.transport.drivers import aiokafka as driver

from app.transport.consumer import Consumer


class Producer(driver.Producer):
    """Idempotent producer: a retry within a session neither repeats nor reorders records."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {**super()._settings_extra(), "enable_idempotence": True}


class Transport(driver.Transport):
    """aiokafka's driver with our consumer and producer."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer
