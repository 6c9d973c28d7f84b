-- For each key: store the recommendation if its version is above the stored one, and let it expire at a wall time.
-- KEYS[i]; ARGV = version, expires_at_ms, recommendation for each key. Returns for each key the version that stood before (0: none).
-- Versions are below 2^53, so Lua's numbers hold them exactly.
local before = {}
for i, key in ipairs(KEYS) do
  local version = ARGV[3 * i - 2]
  local stored = redis.call('HGET', key, 'version')
  if not stored or tonumber(stored) < tonumber(version) then
    redis.call('HSET', key, 'version', version, 'recommendation', ARGV[3 * i])
    redis.call('PEXPIREAT', key, ARGV[3 * i - 1])
  end
  before[i] = stored or '0'
end
return before
