--- include: lib/record, lib/doorbells
-- Waiting jobs, a lane for each class and tenant, and which of them are next.

-- Add to what the jobs of a lane cost together.
local function lane_cost(model, class, tenant, cost)
  redis.call('HINCRBY', key.queue(model), 'cost:' .. class .. ':' .. tenant, cost)
end

-- Stand a waiting job in its lane; false where it stands there already. Its arrival number keeps its place, so a job
-- that comes back stands at the front. A tenant whose lane was empty joins at the class's virtual clock.
-- A lane lives as long as any job in it, and what lists its jobs lives as long as the lane.
local function enqueue(job)
  local model, class, tenant = job.model, job.class, job.tenant
  local lane, active = key.lane(model, class, tenant), key.active(model, class)
  if redis.call('ZADD', lane, job.seq, job.id) == 0 then return false end
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
  if not enqueue(job) then return end
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

-- Take a job out of its lane, wherever it stands in it.
local function dequeue(job)
  local lane = key.lane(job.model, job.class, job.tenant)
  if redis.call('ZREM', lane, job.id) == 0 then return end
  redis.call('HINCRBY', key.queue(job.model), 'depth', -1)
  if redis.call('EXISTS', lane) == 1 then
    lane_cost(job.model, job.class, job.tenant, -tonumber(job.cost))
  else
    local clock = tonumber(redis.call('HGET', key.queue(job.model), 'clock:' .. job.class) or 0)
    local tag = tonumber(redis.call('ZSCORE', key.active(job.model, job.class), job.tenant) or clock)
    close_lane(job.model, job.class, job.tenant, tag, clock)
  end
end

-- The next jobs, up to `room` and until they cost `budget`, all of one tenant: in order of class, then the
-- tenant that had least, then age. Start-time fair queueing: a tenant's tag grows by the cost of what it got
-- (Goyal, Vin, Cheng 1996), so tenants share the engine's work and not the number of jobs. Returns the jobs and how
-- many still wait.
local function pop(model, room, budget)
  for _, class in ipairs(CLASSES) do
    local active, queue = key.active(model, class), key.queue(model)
    local first = redis.call('ZRANGE', active, 0, 1, 'WITHSCORES')
    while first[1] do
      local tenant, tag, rival, limit = first[1], tonumber(first[2]), first[3], tonumber(first[4])
      local lane = key.lane(model, class, tenant)
      local ids, jobs, spent, clock = redis.call('ZRANGE', lane, 0, room - 1), {}, 0, tag
      for i, id in ipairs(ids) do
        if i > 1 and (spent >= budget or rival and (tag > limit or tag == limit and tenant > rival)) then break end
        jobs[i] = load(id) or {id = id, cost = 1}
        local cost = tonumber(jobs[i].cost)
        clock, tag, spent = tag, tag + cost, spent + cost
      end
      if #jobs > 0 then
        redis.call('ZREM', lane, unpack(ids, 1, #jobs))
        redis.call('HSET', queue, 'clock:' .. class, clock)
        if redis.call('EXISTS', lane) == 1 then
          redis.call('ZADD', active, tag, tenant)
          lane_cost(model, class, tenant, -spent)
        else
          close_lane(model, class, tenant, tag, clock)
        end
        return jobs, redis.call('HINCRBY', queue, 'depth', -#jobs)
      end
      redis.call('ZREM', active, tenant)
      first = redis.call('ZRANGE', active, 0, 1, 'WITHSCORES')
    end
  end
  return {}, 0
end
