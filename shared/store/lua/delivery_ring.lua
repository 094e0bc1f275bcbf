--- include: lib/outbox
-- Whether a doorbell for deliveries must be pushed: some are due, and no other ring is on its way.
-- Also ends what was never delivered within `most` ms, so that no delivery waits for ever.
-- ARGV: most (ms), limit.
-- Returns {ring, ended}.
local most, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()
write_though_full()

local old = redis.call('ZRANGEBYSCORE', key.pending(), '-inf', int(now - most), 'LIMIT', 0, limit)
for _, id in ipairs(old) do
  local known = redis.call('HMGET', key.delivery(id), 'state', 'tenant', 'to')
  redis.call('ZREM', key.pending(), id)
  if known[2] then outbox().unpend(known[2], id) end
  if known[1] == 'pending' then
    redis.call('ZREM', key.outbox(known[3]), id)
    redis.call('HSET', key.delivery(id), 'state', 'dead', 'fault', 'too_late')
    outbox().dead_letter(known[2], id, now)
    outbox().reschedule(known[3], now)
  end
end

local ring = 0
if redis.call('ZCOUNT', key.tellers(), '-inf', int(now)) > 0
    and redis.call('SET', key.deliverybell(), '1', 'NX', 'PX', BELL_MS) then
  ring = 1
end
return {ring, #old}
