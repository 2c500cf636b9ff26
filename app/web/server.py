"""The pages: what each address answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec
from aiohttp import web
from faust.web.drivers import aiohttp as driver
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from yarl import URL

from app import metrics
from app.redis_client import REDIS_ERRORS
from app.runtime.heartbeat import all_workers
from app.web.blocks import BlockIntake
from app.web.status import Workers, is_ready, worker_status

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

_FOLDER = Path(__file__).parent

_SECURITY = {
    # Nothing but our own files, and no script or style inside a page. The page's icon is a data: address.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Web(driver.Web):
    """Faust's web server with our pages in place of its own, on the socket that the worker has bound."""

    production_blueprints: ClassVar[Any] = ()

    def __init__(self, app: ContinuumApp, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        pages = _Pages(app)
        self._intake = BlockIntake(app)
        self.web_app.on_response_prepare.append(_secure)
        self.web_app.router.add_routes(
            [
                web.get("/", pages.overview),
                web.static("/assets", _FOLDER / "assets"),
                web.get("/v1/status", pages.status),
                web.get("/v1/workers", pages.workers),
                web.get("/healthz", pages.alive),
                web.get("/readyz", pages.ready),
                web.get("/metrics", pages.metrics),
                web.post("/v1/blocks", self._intake.post),
            ]
        )

    async def on_stop(self) -> None:
        """Stop what takes blocks, after the last request has been answered."""
        await super().on_stop()
        await self._intake.stop()

    @property
    def url(self) -> URL:
        """Where the pages are, for Faust's banner; the canonical address that it would name is made up."""
        return URL(cast("ContinuumApp", self.app).web_url)

    def _new_transport_tcp(self) -> web.BaseSite:
        return web.SockSite(self._runner, cast("ContinuumApp", self.app).web_socket)


async def _secure(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY)


class _Pages:
    def __init__(self, app: ContinuumApp) -> None:
        self._app = app

    async def overview(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(_FOLDER / "overview.html")

    async def status(self, _: web.Request) -> web.Response:
        return _json(worker_status(self._app))

    async def workers(self, _: web.Request) -> web.Response:
        own = worker_status(self._app)
        try:
            known = await all_workers(self._app.redis, self._app.settings.topic_prefix)
        except REDIS_ERRORS:
            return _json(Workers(own.instance, others_visible=False, workers=[own]))
        workers = [worker for worker in known if worker.instance != own.instance]
        workers = sorted([own, *workers], key=lambda worker: worker.instance)
        return _json(Workers(own.instance, others_visible=True, workers=workers))

    async def alive(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(self, _: web.Request) -> web.Response:
        ready = is_ready(self._app)
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        # Known when it is asked for, not when something happens.
        for name, tier in worker_status(self._app).tiers.items():
            metrics.LAG.labels(name).set(tier.lag)
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _json(value: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
