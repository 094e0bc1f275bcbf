--- include: lib/outbox
-- What became of an attempt to deliver.
-- ARGV: id, to, attempt, outcome ('delivered' | 'retry' | 'dead' | 'returned'), delay (ms),
--   HTTP status or '', fault or '', '1' if the receiver is well, '0' if not, '' if nothing is known,
--   retention (s).
-- Returns 1 when it is recorded, by this call or before; 0 when the attempt is not the latest one.
local id, to, attempt, outcome, delay = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local status, fault, well, retention = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local k = key.delivery(id)
local now = now_ms()
write_though_full()

local known = redis.call('HMGET', k, 'state', 'attempt', 'recorded', 'tenant')
if known[1] and known[3] == attempt then return 1 end
if known[1] and known[2] ~= attempt then return 0 end

redis.call('ZREM', key.sending(to), id)
if well == '1' then
  redis.call('DEL', key.receiver(to))
elseif well == '0' then
  local failures = redis.call('HINCRBY', key.receiver(to), 'failures', 1)
  if failures >= OPEN_AFTER then
    local shut = math.min(OPEN_MS * 2 ^ math.min(failures - OPEN_AFTER, 10), OPEN_MAX_MS)
    redis.call('HSET', key.receiver(to), 'open_until', int(now + shut))
  end
  redis.call('EXPIRE', key.receiver(to), RECEIVER_TTL)
end

if known[1] then
  redis.call('HSET', k, 'recorded', attempt)
  if outcome == 'returned' then
    outbox().queue_up(key.outbox(to), now, id)
  else
    redis.call('HSET', k, 'last', int(now), 'code', status, 'fault', fault)
    if outcome == 'retry' then
      redis.call('HINCRBY', k, 'failures', 1)
      redis.call('HSET', k, 'due', int(now + delay))
      outbox().queue_up(key.outbox(to), now + delay, id)
    else
      redis.call('HSET', k, 'state', outcome, 'delivered', outcome == 'delivered' and int(now) or '')
      outbox().unpend(known[4], id)
      if outcome == 'dead' then
        outbox().dead_letter(known[4], id, now)
      else
        outbox().keep_delivery(id, known[4], tonumber(retention), now)
        redis.call('ZREM', key.undelivered(known[4]), id)
      end
    end
  end
else
  outbox().unpend(string.match(to, '^%S+'), id)
end
outbox().reschedule(to, now)
write_ledgers()
return 1
