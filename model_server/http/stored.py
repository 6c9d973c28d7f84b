"""Standing recommendations of users that another instance serves, or that were published before a restart: from Redis."""

import time
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.settings import RedisSettings


class StoredRecommendations:
    """Reads what the instances have stored; while Redis is away it says so at once and tries again a second later."""

    AWAY_S = 1.0

    def __init__(self, settings: RedisSettings) -> None:
        options: dict[str, Any] = {"ssl_ca_certs": settings.ssl_ca_file} if settings.ssl_ca_file else {}
        self._client = redis.asyncio.Redis.from_url(
            settings.url.get_secret_value(),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        self._prefix = settings.key_prefix
        self._away_until_s = 0.0

    async def get(self, user_id: str) -> bytes | None:
        """The JSON of the user's standing recommendation; None if there is none, or Redis does not answer."""
        if time.monotonic() < self._away_until_s:
            return None
        try:
            stored: Any = await self._client.hget(f"{self._prefix}recommendation:{user_id}", "recommendation")
        except (redis.RedisError, OSError):
            self._away_until_s = time.monotonic() + self.AWAY_S
            return None
        return bytes(stored) if stored is not None else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
