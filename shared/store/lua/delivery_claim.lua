--- include: lib/outbox
-- Hand out up to `room` deliveries that are due, each with a new attempt and a lease, the tenants in turn
-- and the receivers of each in turn. A delivery whose lease ran out is due again.
-- A tenant gets a slot only while it holds fewer of its sender's than are free, so that its slow receivers
-- never take all of them.
-- ARGV: room, lease (ms), how many slots of the sender are free, then pairs of a tenant and how many
--   it holds.
-- Returns {now_ms, delivery, …}, a delivery being {field, value, …}.
local room, lease, free = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local out, held, holders = {int(now)}, {}, 0
for i = 4, #ARGV, 2 do
  held[ARGV[i]] = tonumber(ARGV[i + 1])
  holders = holders + 1
end

local function may_hold(tenant) return room > 0 and (held[tenant] or 0) < free end

-- What a delivery refers to it tells as its job's own.
local function add_output(delivery)
  local fields = {}
  for i = 1, #delivery, 2 do fields[delivery[i]] = delivery[i + 1] end
  if not fields.output_of then return end
  local output, usage = outputs().referred(fields.output_of)
  delivery[#delivery + 1] = 'job.output'
  delivery[#delivery + 1] = output or ''
  if not fields['job.usage'] then
    delivery[#delivery + 1] = 'job.usage'
    delivery[#delivery + 1] = usage or ''
  end
end

local function hand_out(tenant, to)
  local waiting, sending = key.outbox(to), key.sending(to)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', sending, '-inf', int(now))) do
    redis.call('ZREM', sending, id)
    outbox().queue_up(waiting, now, id)
  end
  local circuit = redis.call('HMGET', key.receiver(to), 'failures', 'open_until')
  local may_take = (circuit[1] and 1 or PER_RECEIVER) - redis.call('ZCARD', sending)
  if tonumber(circuit[2] or 0) > now then may_take = 0 end
  while may_take > 0 and may_hold(tenant) do
    local id = redis.call('ZRANGEBYSCORE', waiting, '-inf', int(now), 'LIMIT', 0, 1)[1]
    if not id then break end
    redis.call('ZREM', waiting, id)
    if redis.call('HGET', key.delivery(id), 'state') == 'pending' then
      redis.call('HINCRBY', key.delivery(id), 'attempt', 1)
      outbox().queue_up(sending, now + lease, id)
      local delivery = redis.call('HGETALL', key.delivery(id))
      add_output(delivery)
      out[#out + 1] = delivery
      held[tenant] = (held[tenant] or 0) + 1
      room, free, may_take = room - 1, free - 1, may_take - 1
    else
      outbox().unpend(tenant, id)
    end
  end
  outbox().reschedule(to, now)
end

write_though_full()
redis.call('DEL', key.deliverybell())
-- Tenants that may hold no more are passed over, so that there are others to look at behind them.
local due = redis.call('ZRANGEBYSCORE', key.tellers(), '-inf', int(now), 'LIMIT', 0, room + holders)
for _, tenant in ipairs(due) do
  if may_hold(tenant) then
    local receivers = redis.call('ZRANGEBYSCORE', key.receivers(tenant), '-inf', int(now), 'LIMIT', 0, room)
    for _, to in ipairs(receivers) do
      if not may_hold(tenant) then break end
      hand_out(tenant, to)
    end
    outbox().reschedule_tenant(tenant, now)
  end
end
return out
