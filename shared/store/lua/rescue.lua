--- include: lib/flights, lib/retries
-- Put right what the dead left behind, up to `limit` of each kind: expired leases, due retries, passed
-- deadlines, silent workers, unanswered doorbells. Costs nothing for jobs that merely wait.
-- ARGV: model, limit, retention (s).
-- Returns {lost leases requeued, lost leases failed, due, expired, ring}; an error where the script failed at a job,
-- once all is done for the others.
local model, limit, retention = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
local requeued, failed, expired = 0, 0, 0
write_though_full()

local function passed(k) return redis.call('ZRANGEBYSCORE', k, '-inf', int(now), 'LIMIT', 0, limit) end

local broken = for_each(key.leases(model), passed(key.leases(model)), function(id)
  local job = load(id)
  if not job or job.state ~= 'running' then
    redis.call('ZREM', key.leases(model), id)
  elseif job.cancel_requested then
    endings().finish(job, 'canceled', now, '', '{"code":"job_canceled","message":"The job was canceled.","retryable":false}', '', retention)
  elseif tonumber(job.deadline) <= now then
    endings().finish(job, 'expired', now, '', '{"code":"job_expired","message":"The deadline passed before a result existed.","retryable":false}', '', retention)
    expired = expired + 1
  elseif job.parked == '1' then
    retries().requeue(job, now, 0, 'worker_lost')
    requeued = requeued + 1
  elseif redis.call('HINCRBY', key.job(id), 'crashes', 1) >= MAX_CRASHES then
    endings().finish(job, 'failed', now, '', '{"code":"worker_crashed","message":"Its workers died ' .. MAX_CRASHES .. ' times while it ran.","retryable":false}', '', retention, true)
    failed = failed + 1
  else
    retries().requeue(job, now, 0, 'worker_lost')
    requeued = requeued + 1
  end
end)

local due, undue = take_due(model, now, limit)

local undead = for_each(key.deadlines(model), passed(key.deadlines(model)), function(id)
  local job = load(id)
  if job and job.state == 'queued' then
    endings().finish(job, 'expired', now, '', '{"code":"job_expired","message":"The deadline passed while the job waited.","retryable":false}', '', retention)
    expired = expired + 1
  elseif not job or job.state ~= 'running' then
    redis.call('ZREM', key.deadlines(model), id)
  elseif not redis.call('ZSCORE', key.leases(model), id) then
    -- Nobody has it: a call of an older version broke off between its claim and its lease. The next rescue ends it.
    redis.call('ZADD', key.leases(model), int(now), id)
    keep(key.leases(model), HORIZON)
  else
    -- Its worker enforces the deadline between two steps; look again when its lease may have run out.
    redis.call('ZADD', key.deadlines(model), int(now + 5000), id)
  end
end)

redis.call('ZREMRANGEBYSCORE', key.drains(model), '-inf', int(now))
local reports = redis.call('HGETALL', key.workers(model))
for i = 1, #reports, 2 do
  if tonumber(string.match(reports[i + 1], '^(%d+)')) < now then
    redis.call('HDEL', key.workers(model), reports[i])
  end
end
write_tallies()
if broken or undue or undead then return problem(broken or undue or undead) end
return {requeued, failed, due, expired, ring_wanted(model, now)}
