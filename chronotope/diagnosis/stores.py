"""What is wrong with Redis and the schema registry."""

from collections.abc import Callable
from urllib.parse import urlsplit

from chronotope.diagnosis.finding import Finding, fine, problem, warning
from schemas.settings import RedisSettings, RegistrySettings

REGISTRY_TIMEOUT_S = 5
# The commands that the sink's script sends, asked for by name: nothing is written. Redis before 7 cannot be asked.
PERMISSIONS = """
local commands = {{'HGET', KEYS[1], 'version'}, {'HSET', KEYS[1], 'version', '1'}, {'PEXPIREAT', KEYS[1], '1'}}
local denied = {}
for _, command in ipairs(redis.acl_check_cmd and commands or {}) do
  if not redis.acl_check_cmd(unpack(command)) then table.insert(denied, command[1]) end
end
return denied
"""


def check_redis(settings: RedisSettings) -> Finding:
    """Whether Redis answers, lets us write, and will not throw recommendations away at random."""
    import redis

    from model_server.sinks.redis_sink import redis_client

    try:
        client = redis_client(settings)
        memory, server = client.info("memory"), client.info("server")
        denied = client.eval(PERMISSIONS, 1, f"{settings.key_prefix}recommendation:doctor")
        client.close()
    except redis.AuthenticationError as error:
        return problem("redis", f"refuses the user or password of CHRONOTOPE_REDIS_URL: {error}")
    except redis.exceptions.NoPermissionError as error:
        return problem("redis", f"the user of CHRONOTOPE_REDIS_URL lacks a right: {error}")
    except (redis.RedisError, OSError, ValueError) as error:
        return problem("redis", f"does not answer: {error}")
    if denied:
        commands = ", ".join(command.decode() for command in denied)
        return problem(
            "redis", f"the user of CHRONOTOPE_REDIS_URL may not send {commands} for keys {settings.key_prefix}*"
        )
    policy = memory.get("maxmemory_policy", "unknown")
    detail = f"{server.get('redis_version')} answers, maxmemory policy {policy}"
    if memory.get("maxmemory", 0) and policy.startswith("allkeys"):
        return warning("redis", f"{detail}: it evicts recommendations that have not expired; use volatile-ttl")
    return fine("redis", detail)


def check_registry(settings: RegistrySettings) -> Finding:
    """Whether the schema registry answers, if one is configured."""
    config = settings.client_config()
    if config is None or settings.url is None:
        return fine("registry", "none configured: events are read as JSON")
    from confluent_kafka.schema_registry import SchemaRegistryClient

    address = urlsplit(settings.url)._replace(netloc=urlsplit(settings.url).netloc.rpartition("@")[2]).geturl()
    ask: Callable[[], list[str]] = SchemaRegistryClient(
        config | {"timeout": REGISTRY_TIMEOUT_S, "max.retries": 0}
    ).get_subjects
    try:
        subjects = ask()
    except Exception as error:  # the client raises whatever its HTTP library does
        return problem("registry", f"{address} does not answer: {error}")
    return fine("registry", f"{address} answers, {len(subjects)} subjects")
