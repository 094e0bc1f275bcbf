--- include: lib/outbox
-- Send deliveries again, delivered, dead or waiting for a retry, and let their receiver be tried at once.
-- ARGV: tenant, ids.
-- Returns how many are due now; one that is under way stays as it is.
local tenant, now, again = ARGV[1], now_ms(), 0
for i = 2, #ARGV do
  local id, k = ARGV[i], key.delivery(ARGV[i])
  local known = redis.call('HMGET', k, 'tenant', 'to')
  local to = known[2]
  if known[1] == tenant and not redis.call('ZSCORE', key.sending(to), id) then
    redis.call('HSET', k, 'state', 'pending', 'failures', '0', 'first', int(now), 'due', int(now))
    outbox().keep_delivery(id, tenant, tonumber(HORIZON), now)
    redis.call('ZREM', key.undelivered(tenant), id)
    redis.call('DEL', key.receiver(to))
    outbox().queue_up(key.outbox(to), now, id)
    outbox().pend(tenant, id, now)
    outbox().reschedule(to, now)
    again = again + 1
  end
end
write_ledgers()
return again
