--- include: lib/record, lib/doorbells
-- Waiting jobs, a lane for each class and tenant.

-- Add to what the jobs of a lane cost together.
local function lane_cost(model, class, tenant, cost)
  redis.call('HINCRBY', key.queue(model), 'cost:' .. class .. ':' .. tenant, cost)
end

-- Stand waiting jobs in their lane, each behind its arrival number; false where they stand there already. That number
-- keeps a job's place, so one that comes back stands at the front. A tenant whose lane was empty joins at the class's
-- virtual clock. A lane lives as long as any job in it, and what lists its jobs lives as long as the lane.
local function enqueue(model, class, tenant, ...)
  local lane, active = key.lane(model, class, tenant), key.active(model, class)
  if redis.call('ZADD', lane, ...) == 0 then return false end
  if not redis.call('ZSCORE', active, tenant) then
    local clock = tonumber(redis.call('HGET', key.queue(model), 'clock:' .. class) or 0)
    local tag = tonumber(redis.call('ZSCORE', key.tags(model, class), tenant) or 0)
    redis.call('ZADD', active, math.max(clock, tag), tenant)
  elseif redis.call('TTL', lane) >= HORIZON / 2 then
    return true
  end
  redis.call('EXPIRE', lane, HORIZON)
  redis.call('EXPIRE', active, HORIZON)
  redis.call('EXPIRE', key.index(tenant), HORIZON)
  return true
end

-- Put a waiting job into its lane, and call somebody for it.
local function enqueue_and_notify(job)
  if not enqueue(job.model, job.class, job.tenant, job.seq, job.id) then return end
  lane_cost(job.model, job.class, job.tenant, job.cost)
  redis.call('HINCRBY', key.queue(job.model), 'depth', 1)
  notify_one(job.model)
end

-- A lane is empty, its tenant's tag and the class's virtual clock (numbers) are these: the tag is remembered while
-- it is ahead of the clock, so that nobody gains by leaving.
local function close_lane(model, class, tenant, tag, clock)
  local tags = key.tags(model, class)
  redis.call('ZREM', key.active(model, class), tenant)
  redis.call('HDEL', key.queue(model), 'cost:' .. class .. ':' .. tenant)
  if tag > clock then
    redis.call('ZADD', tags, tag, tenant)
    keep(tags, HORIZON)
  end
  redis.call('ZREMRANGEBYSCORE', tags, '-inf', clock)
end
