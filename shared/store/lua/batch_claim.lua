--- include: lib/base
-- Hand out the open batch that has been due longest, fenced and with a lease: it is due again when that ends.
-- ARGV: lease (ms).
-- Returns {} where none is due, or {id, fence, {field, value, …}, {line, where, …}: its lines
--   whose jobs were made and not gathered}.
local now, open = now_ms(), key.openbatches()
if redis.call('TTL', key.batchlook()) < 30 then redis.call('SET', key.batchlook(), '1', 'EX', 60) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', open, '-inf', int(now), 'LIMIT', 0, 16)) do
  if redis.call('EXISTS', key.batch(id)) == 1 then
    redis.call('ZADD', open, int(now + tonumber(ARGV[1])), id)
    local fence = redis.call('HINCRBY', key.batch(id), 'fence', 1)
    return {id, fence, redis.call('HGETALL', key.batch(id)),
      redis.call('HGETALL', key.batchlive(id))}
  end
  redis.call('ZREM', open, id)
end
return {}
