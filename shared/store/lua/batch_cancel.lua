--- include: lib/base
-- Ask for the end of a batch.
-- ARGV: id, tenant.
-- Returns the status that it had, or 'missing'.
local record = key.batch(ARGV[1])
local held = redis.call('HMGET', record, 'status', 'tenant')
if held[2] ~= ARGV[2] then return 'missing' end
if held[1] == 'validating' or held[1] == 'in_progress' then
  local now = now_ms()
  redis.call('HSET', record, 'status', 'cancelling', 'ending', 'cancelled', 'cancelling_at', int(now / 1000))
  redis.call('ZADD', key.openbatches(), 'XX', 'LT', int(now), ARGV[1])
end
return held[1]
