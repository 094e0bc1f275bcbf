--- include: lib/base
-- Who is called when jobs wait: an idle drain, or a worker by a doorbell.

local function depth(model) return tonumber(redis.call('HGET', key.queue(model), 'depth') or 0) end

-- Drains that wait for jobs stand in key.idle by since when; full ones behind all others: their room comes by itself,
-- but they ring for a worker that stands idle.
local FULL = 1e15

-- Notify one of them; the next, where nobody hears it. `spare`: nobody who is full. Returns whether one was there.
local function notify_one(model, spare)
  local idle = key.idle(model)
  local first = redis.call('ZRANGE', idle, 0, 0, 'WITHSCORES')
  while first[1] and not (spare and tonumber(first[2]) >= FULL) do
    redis.call('ZREM', idle, first[1])
    if redis.call('PUBLISH', key.rouse(first[1]), '1') > 0 then return true end
    first = redis.call('ZRANGE', idle, 0, 0, 'WITHSCORES')
  end
  return false
end

-- Whether a doorbell must be pushed. At most one is on its way; one that got lost is rung again once its
-- marker has expired.
local function should_notify(model)
  return redis.call('SET', key.bell(model), '1', 'NX', 'PX', BELL_MS) and 1 or 0
end

local function drains_at_work(model, now) return redis.call('ZCOUNT', key.drains(model), int(now), '+inf') end

-- Jobs wait and no drain is at work.
local function ring_wanted(model, now)
  if drains_at_work(model, now) > 0 or depth(model) == 0 then return 0 end
  return should_notify(model)
end

-- Jobs wait behind a drain that is full, and a worker stands idle.
local function relief_wanted(model, now)
  if depth(model) == 0 or redis.call('HLEN', key.workers(model)) <= drains_at_work(model, now) then return 0 end
  return should_notify(model)
end
