--- include: lib/lanes
-- How fast a model's queue drains, and what follows for those who wait.
-- Measured only while jobs wait from one claim to the next: then the workers take all they can, and what
-- is counted is capacity, not demand. Fields of the hash key.queue(model):
--   drained drain_ms    jobs handed out and the time it took, older ones fading
--   drain_from          ms of the last claim if it left jobs waiting, else 0
--   drain_seen          ms of the last claim that was counted
--   renewed             ms when the expiry of the model's keys was last renewed (create.lua)

local DRAIN_MEMORY_MS = 30000  -- What is counted fades over this time or over so many jobs,
local DRAIN_MEMORY_JOBS = 64   -- whichever lasts longer.
local DRAIN_LEAST_MS, DRAIN_LEAST_JOBS = 1000, 8
local DRAIN_STALE_MS = 600000

-- The first four of these fields, how many jobs wait, and what else is asked for, numbers all.
local function drain_state(model, ...)
  local v = redis.call('HMGET', key.queue(model), 'drained', 'drain_ms', 'drain_from', 'drain_seen', 'depth', ...)
  for i = 1, #v do v[i] = tonumber(v[i] or 0) end
  return unpack(v)
end

-- A claim handed out `gone` jobs and left `left` waiting.
local function measure_drain(model, now, gone, left)
  local jobs, ms, from, seen = drain_state(model)
  if from == 0 and left == 0 then return end
  if now - seen > DRAIN_STALE_MS then jobs, ms = 0, 0 end
  if from > 0 then
    local passed = math.max(0, now - from)
    local kept = math.exp(-math.min(passed / DRAIN_MEMORY_MS, gone / DRAIN_MEMORY_JOBS))
    jobs, ms, seen = jobs * kept + gone, ms * kept + passed, now
  end
  redis.call('HSET', key.queue(model), 'drained', string.format('%.6f', jobs), 'drain_ms',
    string.format('%.6f', ms), 'drain_from', int(left > 0 and now or 0), 'drain_seen', int(seen))
end

-- Jobs a millisecond, nil where it is not known: counting the wait for the next claim too, so that a queue
-- where nothing moves is not thought to drain, and without it.
local function pace(now, jobs, ms, from, seen)
  if ms >= DRAIN_LEAST_MS and jobs >= DRAIN_LEAST_JOBS and now - seen <= DRAIN_STALE_MS then
    return jobs / (from > 0 and ms + math.max(0, now - from) or ms), jobs / ms
  end
end

local estimates = lazy(function()
  -- Both, and how many jobs wait.
  local function drain_rate(model, now)
    local jobs, ms, from, seen, waiting = drain_state(model)
    local honest, plain = pace(now, jobs, ms, from, seen)
    return honest, plain, waiting
  end

  -- The mean cost of the jobs in a lane that holds so many.
  local function mean_cost(model, class, tenant, jobs)
    local all = tonumber(redis.call('HGET', key.queue(model), 'cost:' .. class .. ':' .. tenant) or 0)
    return math.max(1, all / math.max(1, jobs))
  end

  -- The virtual time at which a job starts that has `rank` others of its own lane before it.
  local function virtual_start(model, class, tenant, rank)
    local lane = redis.call('ZCARD', key.lane(model, class, tenant))
    local tag = redis.call('ZSCORE', key.active(model, class), tenant)
    if not tag then
      tag = math.max(tonumber(redis.call('HGET', key.queue(model), 'clock:' .. class) or 0),
        tonumber(redis.call('ZSCORE', key.tags(model, class), tenant) or 0))
    end
    return tonumber(tag) + rank * mean_cost(model, class, tenant, lane)
  end

  -- How many jobs go before the one that has `rank` others of its own lane before it: exact where the jobs
  -- of each tenant cost the same, else an estimate from the means of their lanes.
  local function jobs_ahead(model, class, tenant, rank)
    local ahead, start = rank
    for _, other_class in ipairs(CLASSES) do
      local tags = redis.call('ZRANGE', key.active(model, other_class), 0, 63, 'WITHSCORES')
      for i = 1, #tags, 2 do
        local other, tag = tags[i], tonumber(tags[i + 1])
        if other_class ~= class then
          ahead = ahead + redis.call('ZCARD', key.lane(model, other_class, other))
        elseif other ~= tenant then
          start = start or virtual_start(model, class, tenant, rank)
          if tag < start then
            local jobs = redis.call('ZCARD', key.lane(model, class, other))
            ahead = ahead + math.min(jobs, math.ceil((start - tag) / mean_cost(model, class, other, jobs)))
          end
        end
      end
      if other_class == class then break end
    end
    return ahead
  end

  -- Milliseconds until a queue that drains at `rate` has lost `surplus` jobs; 0 where that is not known.
  local function until_drained(rate, surplus)
    if not rate then return 0 end
    return math.ceil(surplus / rate)
  end

  return {drain_rate = drain_rate, jobs_ahead = jobs_ahead, until_drained = until_drained}
end)
