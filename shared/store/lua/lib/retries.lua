--- include: lib/events, lib/lanes
-- Jobs that go back to the queue.

local MOST_PAST = 10
local AGAIN_MS = 60000  -- When a job is looked at again at which a script failed.

local retries = lazy(function()
  -- Write down when an attempt that has not ended its job began and ended, why, and which worker had it.
  local function remember_attempt(job, now, reason)
    local line = int(job.attempt) .. ' ' .. (job.claimed or job.started or int(now)) .. ' ' .. int(now) .. ' ' .. reason
      .. ' ' .. (job.worker or '')
    local past = job.past and job.past .. '\n' .. line or line
    local _, more = string.gsub(past, '\n', '')
    if more >= MOST_PAST then past = string.sub(past, string.find(past, '\n', 1, true) + 1) end
    put(job, 'past', past)
  end

  -- Give a running job back to the queue, at once or when `delay` ms have passed. The rescuer, which
  -- leaves a running job's deadline to its worker for a while, minds it again.
  local function requeue(job, now, delay, reason)
    move(job, 'queued')
    log(job, job.attempt, next_seq(job), 'status', status_event(job, ',"reason":"' .. reason .. '"'))
    remember_attempt(job, now, reason)
    save(job)
    redis.call('ZREM', key.leases(job.model), job.id)
    redis.call('ZADD', key.deadlines(job.model), int(tonumber(job.deadline)), job.id)
    if delay > 0 then
      redis.call('ZADD', key.due(job.model), int(now + delay), job.id)
      keep(key.due(job.model), HORIZON)
    else
      enqueue_and_notify(job)
    end
  end

  return {requeue = requeue}
end)

-- Do this for each of some jobs, or of their ids. One at which it fails hurts no other: it is looked at again in a
-- while, by its time in the sorted set `k`. Returns the first failure.
local function for_each(k, jobs, act)
  local failure
  for _, job in ipairs(jobs) do
    local done, why = pcall(act, job)
    if not done then
      failure = failure or why
      redis.call('ZADD', k, int(now_ms() + AGAIN_MS), job.id or job)
    end
  end
  return failure
end

-- Put retries whose time has come into their lanes. Returns how many, and the first failure.
local function take_due(model, now, limit)
  local due = key.due(model)
  local ids = redis.call('ZRANGEBYSCORE', due, '-inf', int(now), 'LIMIT', 0, limit)
  return #ids, for_each(due, ids, function(id)
    local job = load(id)
    if job and job.state == 'queued' then enqueue_and_notify(job) end
    redis.call('ZREM', due, id)
  end)
end
