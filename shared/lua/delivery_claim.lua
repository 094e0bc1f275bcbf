-- Hand out up to `room` deliveries that are due, each with a new attempt and a lease, the receivers
-- in turn. A delivery whose lease ran out is due again.
-- ARGV[3..]: room, lease (ms).
-- Returns {now_ms, delivery, …}, a delivery being {field, value, …}.
local room, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local out = {int(now)}

redis.call('DEL', key.deliverybell())
local receivers = redis.call('ZRANGEBYSCORE', key.receivers(), '-inf', int(now), 'LIMIT', 0, room)
for _, to in ipairs(receivers) do
  local outbox, sending = key.outbox(to), key.sending(to)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', sending, '-inf', int(now))) do
    redis.call('ZREM', sending, id)
    queue_up(outbox, now, id)
  end
  local circuit = redis.call('HMGET', key.receiver(to), 'failures', 'open_until')
  local free = (circuit[1] and 1 or PER_RECEIVER) - redis.call('ZCARD', sending)
  if tonumber(circuit[2] or 0) > now then free = 0 end
  free = math.min(free, room)
  while free > 0 do
    local id = redis.call('ZRANGEBYSCORE', outbox, '-inf', int(now), 'LIMIT', 0, 1)[1]
    if not id then break end
    redis.call('ZREM', outbox, id)
    if redis.call('HGET', key.delivery(id), 'state') == 'pending' then
      redis.call('HINCRBY', key.delivery(id), 'attempt', 1)
      queue_up(sending, now + lease, id)
      out[#out + 1] = redis.call('HGETALL', key.delivery(id))
      free, room = free - 1, room - 1
    else
      redis.call('ZREM', key.pending(), id)
    end
  end
  reschedule(to, now)
end
return out
