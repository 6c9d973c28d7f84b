"""The routes: recommendations by user, health, readiness, metrics and the OpenAPI document."""

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from model_server.http.limits import RateLimit
from model_server.http.openapi import openapi_document
from model_server.http.stored import StoredRecommendations
from model_server.metrics import ServerMetrics
from model_server.serving import Server
from model_server.settings import ServerSettings
from schemas.events import RecommendationRequest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_ID_CHARS = 256
FRESH_PARAMETERS = frozenset({"k", "lat", "lon", "category", "radius_m", "fresh"})


def make_app(settings: ServerSettings, server: Server, metrics: ServerMetrics) -> web.Application:
    """The aiohttp application over one server."""
    routes = Routes(settings, server, metrics)
    app = web.Application(
        client_max_size=settings.http_max_body_bytes, middlewares=[_measured(metrics), _guarded(settings)]
    )
    app.router.add_get("/recommendations/{user}", routes.recommendations)
    app.router.add_get("/healthz", routes.healthz)
    app.router.add_get("/readyz", routes.readyz)
    app.router.add_get("/metrics", routes.metrics)
    app.router.add_get("/openapi.json", routes.openapi)
    app.on_cleanup.append(routes.close)
    return app


class Routes:
    """The handlers of one server."""

    def __init__(self, settings: ServerSettings, server: Server, metrics: ServerMetrics) -> None:
        self._settings, self._server, self._metrics = settings, server, metrics
        self._openapi = openapi_document(secured=settings.http_token is not None)
        self._stored = StoredRecommendations(settings.redis) if settings.redis is not None else None

    async def close(self, app: web.Application) -> None:
        """Let go of Redis."""
        if self._stored is not None:
            await self._stored.close()

    async def recommendations(self, request: web.Request) -> web.Response:
        """The user's standing recommendation, or a fresh one if none stands or the query asks for a moment or place."""
        user_id = request.match_info["user"]
        if not 0 < len(user_id) <= MAX_ID_CHARS:
            raise _problem(400, f"a user id has 1 to {MAX_ID_CHARS} characters")
        unknown = set(request.query) - FRESH_PARAMETERS
        if unknown:
            raise _problem(400, f"unknown parameter {sorted(unknown)[0]!r}; known are {sorted(FRESH_PARAMETERS)}")
        if not request.query:
            standing = self._server.latest(user_id)
            if standing is None and self._stored is not None:
                standing = await self._stored.get(user_id)
            if standing is not None:
                return web.Response(body=standing, content_type="application/json")
        asked = self._server.ask(self._request(user_id, request))
        try:
            answer = await asyncio.wait_for(asyncio.wrap_future(asked), self._settings.http_answer_timeout_s)
        except TimeoutError:
            raise _problem(503, "no answer in time") from None
        return web.Response(body=answer, content_type="application/json")

    async def healthz(self, request: web.Request) -> web.Response:
        """Alive: this process answers and its serving loop moves."""
        if not self._server.moving():
            raise _problem(503, "the serving loop stands still")
        return web.json_response({"status": "alive"})

    async def readyz(self, request: web.Request) -> web.Response:
        """Ready: assigned, recovered, models loaded."""
        problems = self._server.problems()
        return web.json_response(
            {"status": "not ready", "problems": problems} if problems else {"status": "ready"},
            status=503 if problems else 200,
        )

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format."""
        body = await asyncio.get_running_loop().run_in_executor(None, generate_latest, self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: web.Request) -> web.Response:
        """This interface's OpenAPI document."""
        return web.Response(body=self._openapi, content_type="application/json")

    def _request(self, user_id: str, request: web.Request) -> RecommendationRequest:
        query = request.query
        lat, lon = _number(query.get("lat"), "lat", -90, 90), _number(query.get("lon"), "lon", -180, 180)
        radius_m = _number(query.get("radius_m"), "radius_m", 0, math.inf)
        if (lat is None) != (lon is None):
            raise _problem(400, "lat and lon come together")
        if radius_m is not None and lat is None:
            raise _problem(400, "radius_m needs lat and lon")
        k = _number(query.get("k"), "k", 1, 1000)
        return RecommendationRequest(
            request_id=secrets.token_hex(8),
            user_id=user_id,
            request_time_ms=time.time_ns() // 1_000_000,
            lat=lat,
            lon=lon,
            k=int(k) if k is not None else self._settings.k,
            categories=query.getall("category", []),
            radius_m=radius_m,
        )


def _number(text: str | None, name: str, least: float, most: float) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise _problem(400, f"{name} must be a number, got {text[:32]!r}") from None
    if not least <= value <= most:
        raise _problem(400, f"{name} must be from {least} to {most}, got {text[:32]}")
    return value


def _problem(status: int, detail: str) -> web.HTTPException:
    """An error as RFC 9457 problem details."""
    kinds = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        429: web.HTTPTooManyRequests,
        503: web.HTTPServiceUnavailable,
    }
    body = msgspec.json.encode({"status": status, "title": kinds[status]().reason, "detail": detail})
    return kinds[status](text=body.decode(), content_type="application/problem+json")


def _measured(metrics: ServerMetrics) -> "web._Middleware":  # type: ignore[name-defined]
    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        started_s = time.perf_counter()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "none"
            metrics.http_seconds.labels(route, str(status)).observe(time.perf_counter() - started_s)

    return measure


def _guarded(settings: ServerSettings) -> "web._Middleware":  # type: ignore[name-defined]
    limit = RateLimit(settings.http_requests_per_s)
    token = settings.http_token.get_secret_value() if settings.http_token is not None else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/recommendations/"):
            if not limit.admits(request.remote or "", time.monotonic()):
                raise _problem(429, "too many requests")
            given = request.headers.get("Authorization", "")
            if token is not None and not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise _problem(401, "a bearer token is needed")
        return await handler(request)

    return guard
